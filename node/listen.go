package node

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
)

// inHome is a path of the configuration, which begins at the home if it is not absolute.
func (n *Node) inHome(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(n.home, path)
}

// Reload reads the certificate of the listener again. Connections that are there keep the one that
// they have. An error, which is ErrConfig, leaves it as it was.
func (n *Node) Reload() error {
	if n.config.TLS.Cert == "" {
		return nil
	}

	cert, err := tls.LoadX509KeyPair(n.inHome(n.config.TLS.Cert), n.inHome(n.config.TLS.Key))
	if err != nil {
		return fmt.Errorf("%w: tls.cert %s, tls.key %s: %w", exit.ErrConfig, n.inHome(n.config.TLS.Cert),
			n.inHome(n.config.TLS.Key), err)
	}

	n.certificate.Store(&cert)
	return nil
}

// tlsConfig is nil where the listener has no certificate.
func (n *Node) tlsConfig() *tls.Config {
	if n.certificate.Load() == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return n.certificate.Load(), nil },
	}
}

// guarded wants a token of everybody who comes from beyond this machine, for everything but the
// question whether the node is well. The admin token and the submit token are both good for it;
// what changes the node wants the admin token besides.
func (n *Node) guarded(h http.Handler) http.Handler {
	host, _, _ := net.SplitHostPort(n.config.Listen) // it was checked
	if config.Loopback(host) {
		return h
	}

	tokens := []string{n.token}
	if n.submitToken != "" {
		tokens = append(tokens, n.submitToken)
	}

	return api.Guard(h, tokens, "/healthz", "/readyz")
}

// nodeFile says to this machine's clients how to reach the listener at addr.
func (n *Node) nodeFile(addr string) api.NodeFile {
	f := api.NodeFile{PID: os.Getpid(), Address: addr}
	if host, port, err := net.SplitHostPort(addr); err == nil && net.ParseIP(host).IsUnspecified() {
		f.Address = net.JoinHostPort("localhost", port) // of either version of the protocol
	}

	if n.config.TLS.Cert != "" {
		f.Address = "https://" + f.Address
		f.Certificate = n.inHome(n.config.TLS.Cert)
	}

	return f
}
