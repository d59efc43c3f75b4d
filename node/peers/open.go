package peers

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
)

// Open returns the peers that the configuration of a home names, and a function that closes the
// idle connections to them. Errors are exit.ErrConfig.
func Open(home string, c config.Config, g chain.Genesis) (list []consensus.Peer, closeIdle func(), err error) {
	tokens, err := readTokens(home, c)
	if err != nil {
		return nil, nil, err
	}
	roots, err := readRoots(home, c)
	if err != nil {
		return nil, nil, err
	}

	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	t.DisableCompression = true
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	client := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // a peer must not send us, with our token, elsewhere
	}}

	for _, address := range c.Peers() {
		token, own := tokens[address]
		if !own {
			token = tokens[""]
		}
		list = append(list, newPeer(address, token, client, g.ChainID, g.Agents))
	}

	return list, t.CloseIdleConnections, nil
}

func inHome(home, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(home, path)
}

// readTokens returns the tokens of reset.token_file by address. That of the empty address is for
// all others.
func readTokens(home string, c config.Config) (map[string]string, error) {
	if c.Reset.TokenFile == "" {
		return nil, nil
	}

	path := inHome(home, c.Reset.TokenFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: reset.token_file: %w", exit.ErrConfig, err)
	}
	known := make(map[string]bool)
	for _, address := range c.Peers() {
		known[address] = true
	}

	tokens := make(map[string]string)
	for i, line := range strings.Split(string(data), "\n") {
		words := strings.Fields(line)
		address := ""
		if len(words) == 2 {
			address = strings.ToLower(words[0])
		}
		_, twice := tokens[address]

		switch {
		case len(words) == 0:
			continue
		case len(words) > 2 || twice || address != "" && !known[address]:
			return nil, fmt.Errorf("%w: reset.token_file %s, line %d: want an address of reset.peers, a space and a "+
				"token, or one token for all others, each once", exit.ErrConfig, path, i+1)
		}
		tokens[address] = words[len(words)-1]
	}

	return tokens, nil
}

// readRoots returns the certificates of reset.peers_ca, or nil for those that the machine trusts.
func readRoots(home string, c config.Config) (*x509.CertPool, error) {
	if c.Reset.PeersCA == "" {
		return nil, nil
	}

	path := inHome(home, c.Reset.PeersCA)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: reset.peers_ca: %w", exit.ErrConfig, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%w: reset.peers_ca: %s has no certificate in PEM", exit.ErrConfig, path)
	}

	return pool, nil
}
