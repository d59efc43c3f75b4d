package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
)

// Peers returns the addresses of reset.peers, in lower case.
func (c Config) Peers() []string { return list(c.Reset.Peers) }

// checkPeers checks that reset.peers has addresses that a client can dial, each one once.
func checkPeers(c Config) error {
	peers := c.Peers()
	for i, p := range peers {
		if slices.Contains(peers[:i], p) {
			return fmt.Errorf("%q stands there twice", p)
		}
		if err := checkPeer(p); err != nil {
			return err
		}
	}
	return nil
}

func checkPeer(p string) error {
	bad := fmt.Errorf("%q: want host:port, or http:// or https:// and host:port", p)
	hostPort := p

	if u, err := url.Parse(p); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		if u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return bad
		}
		hostPort = u.Host
	}

	host, port, err := net.SplitHostPort(hostPort)
	if err != nil || host == "" || port == "" || port == "0" {
		return bad
	}

	return nil
}
