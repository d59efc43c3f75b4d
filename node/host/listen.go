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

// inHome resolves a path of the configuration, which is relative to the home unless it is absolute.
func inHome(home, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(home, path)
}

// LoadCertificate reads the certificate that the configuration of a home names. It returns nil if
// the configuration names none. Errors are exit.ErrConfig.
func LoadCertificate(home string, c config.TLSConfig) (*tls.Certificate, error) {
	if c.Cert == "" {
		return nil, nil
	}

	certPath, keyPath := inHome(home, c.Cert), inHome(home, c.Key)
	cert, err := tls.LoadX509KeyPair(certPath, keyPath)
	if err != nil {
		return nil, fmt.Errorf("%w: tls.cert %s, tls.key %s: %w", exit.ErrConfig, certPath, keyPath, err)
	}
	return &cert, nil
}

// Reload reads the certificate of the listener again. Open connections keep the one that they have.
// An error, which is exit.ErrConfig, leaves the certificate as it was.
func (h *Host) Reload() error {
	cert, err := LoadCertificate(h.Home, h.TLS)
	if err != nil || cert == nil {
		return err
	}

	h.certificate.Store(cert)

	return nil
}

// tlsConfig returns the TLS configuration of the listener, or nil if it has no certificate.
func (h *Host) tlsConfig() *tls.Config {
	if h.certificate.Load() == nil {
		return nil
	}

	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return h.certificate.Load(), nil },
	}
}

// guarded returns next, or, if other machines can reach the listener, a handler that calls next
// only for requests with a token. Only the health checks need none. Both the admin token and the
// submit token are accepted here. Routes that change the node require the admin token as well.
func (h *Host) guarded(next http.Handler) http.Handler {
	host, _, _ := net.SplitHostPort(h.Listen) // validated with the configuration
	if config.Loopback(host) {
		return next
	}

	tokens := []string{h.Token}
	if h.SubmitToken != "" {
		tokens = append(tokens, h.SubmitToken)
	}

	return api.Guard(next, tokens, "/healthz", "/readyz")
}

// nodeFile returns the description of the listener at addr for clients on this machine.
func (h *Host) nodeFile(addr string) api.NodeFile {
	f := api.NodeFile{PID: os.Getpid(), Address: addr}
	if host, port, err := net.SplitHostPort(addr); err == nil && net.ParseIP(host).IsUnspecified() {
		f.Address = net.JoinHostPort("localhost", port) // over IPv4 or IPv6
	}

	if h.TLS.Cert != "" {
		f.Address = "https://" + f.Address
		f.Certificate = inHome(h.Home, h.TLS.Cert)
	}

	return f
}
