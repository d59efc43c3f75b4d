package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/coppice-go/coppice/node/api"
)

// transport is for calls to the node: the certificate of a node of the home must be that home's
// own, whatever name it is for; another node's must be one that the machine, or --ca, vouches for.
func (a *app) transport() (*http.Client, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 1024
	t.DisableCompression = true
	t.Proxy = nil
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}

	switch {
	case a.address == "":
		t.TLSClientConfig.InsecureSkipVerify = true // VerifyConnection does it
		t.TLSClientConfig.VerifyConnection = a.ownCertificate
	case a.ca != "":
		roots, err := os.ReadFile(a.ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(roots) {
			return nil, fmt.Errorf("--ca: %s has no certificate in PEM", a.ca)
		}

		t.TLSClientConfig.RootCAs = pool
	}

	return &http.Client{Transport: t}, nil
}

// ownCertificate takes the certificate that the home's node.json names and no other one.
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
		return errors.New("the node shows another certificate than " + n.Certificate +
			" (SIGHUP makes it read that again)")
	}

	return nil
}
