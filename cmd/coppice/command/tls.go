package command

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/node/api"
)

// transport returns the HTTP client for calls to the node. The node of the home must show the
// certificate that the home's node.json names, whatever host the certificate is for. A node that
// --address names must show one that the machine, or --ca, trusts.
func (a *app) transport() (*http.Client, error) {
	t := client.NewTransport()
	t.TLS.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}

	switch {
	case a.address == "":
		t.TLS.TLSClientConfig.InsecureSkipVerify = true // VerifyConnection verifies instead
		t.TLS.TLSClientConfig.VerifyConnection = a.ownCertificate

	case a.ca != "":
		roots, err := os.ReadFile(a.ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}

		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(roots) {
			return nil, fmt.Errorf("--ca: %s has no certificate in PEM", a.ca)
		}

		t.TLS.TLSClientConfig.RootCAs = pool
	}

	return &http.Client{Transport: t}, nil
}

// ownCertificate accepts only the certificate that the home's node.json names.
func (a *app) ownCertificate(c tls.ConnectionState) error {
	n, err := api.ReadNodeFile(a.home)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(n.Certificate)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return fmt.Errorf("%s has no certificate in PEM", n.Certificate)
	}

	if len(c.PeerCertificates) == 0 || !bytes.Equal(c.PeerCertificates[0].Raw, block.Bytes) {
		return fmt.Errorf("the node shows another certificate than %s (SIGHUP makes the node read that again)",
			n.Certificate)
	}

	return nil
}
