package host

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
func (h *Host) inHome(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(h.Home, path)
}

// Reload reads the certificate of the listener again. Connections that are there keep the one that
// they have. An error, which is ErrConfig, leaves it as it was.
func (h *Host) Reload() error {
	if h.TLS.Cert == "" {
		return nil
	}

	cert, err := tls.LoadX509KeyPair(h.inHome(h.TLS.Cert), h.inHome(h.TLS.Key))
	if err != nil {
		return fmt.Errorf("%w: tls.cert %s, tls.key %s: %w", exit.ErrConfig, h.inHome(h.TLS.Cert),
			h.inHome(h.TLS.Key), err)
	}

	h.certificate.Store(&cert)
	return nil
}

// tlsConfig is nil where the listener has no certificate.
func (h *Host) tlsConfig() *tls.Config {
	if h.certificate.Load() == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return h.certificate.Load(), nil },
	}
}

// guarded wants a token of everybody who comes from beyond this machine, for everything but the
// question whether the node is well. The admin token and the submit token are both good for it;
// what changes the node wants the admin token besides.
func (h *Host) guarded(next http.Handler) http.Handler {
	host, _, _ := net.SplitHostPort(h.Listen) // it was checked
	if config.Loopback(host) {
		return next
	}

	tokens := []string{h.Token}
	if h.SubmitToken != "" {
		tokens = append(tokens, h.SubmitToken)
	}

	return api.Guard(next, tokens, "/healthz", "/readyz")
}

// nodeFile says to this machine's clients how to reach the listener at addr.
func (h *Host) nodeFile(addr string) api.NodeFile {
	f := api.NodeFile{PID: os.Getpid(), Address: addr}
	if host, port, err := net.SplitHostPort(addr); err == nil && net.ParseIP(host).IsUnspecified() {
		f.Address = net.JoinHostPort("localhost", port) // of either version of the protocol
	}

	if h.TLS.Cert != "" {
		f.Address = "https://" + f.Address
		f.Certificate = h.inHome(h.TLS.Cert)
	}

	return f
}
