package testnet

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
)

// resettable returns the settings of the nodes of a chain that can be reset: each has a fixed
// address for its API, and knows those of the others. Without resets it returns nil.
func resettable(o InitOptions) (set [][]config.Assignment, err error) {
	if o.ResetOffset == 0 {
		return nil, nil
	}
	ports, err := freePorts(o.Nodes)
	if err != nil {
		return nil, err
	}

	for i, p := range ports {
		peers := slices.Delete(slices.Clone(ports), i, i+1)
		set = append(set, []config.Assignment{{Key: "listen", Value: p, Flag: "--listen"},
			{Key: "reset.peers", Value: strings.Join(peers, ","), Flag: "--reset-offset"}})
	}

	return set, nil
}

// apiLinks makes the links from node i to the APIs of the others, if the chain can be reset, and
// returns them.
func (r *running) apiLinks(i int) (links []*link, err error) {
	g, err := home.ReadGenesis(r.Home(0))
	if err != nil || g.Resets == nil {
		return nil, err
	}

	for j := range r.Nodes {
		if j == i {
			continue
		}
		c, err := config.Load(r.Home(j))
		if err != nil {
			return links, err
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return links, err
		}
		links = append(links, &link{from: i, to: j, api: true, listener: l, target: c.Listen})
	}

	return links, nil
}

// resetFlags returns the flags with which node i finds the APIs of the others over their links.
func (r *running) resetFlags(i int) []string {
	var peers []string
	for _, l := range r.links {
		if l.api && l.from == i {
			peers = append(peers, l.listener.Addr().String())
		}
	}
	if peers == nil {
		return nil
	}
	return []string{"--set", "reset.peers=" + strings.Join(peers, ",")}
}

var listenLine = regexp.MustCompile(`(?m)^listen = "([^"]*)"$`)

// moveAPI gives a copied configuration an address of its own, if the original has a fixed one.
func moveAPI(toml []byte) ([]byte, error) {
	at := listenLine.FindSubmatch(toml)
	if at == nil || strings.HasSuffix(string(at[1]), ":0") {
		return toml, nil
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	return listenLine.ReplaceAll(toml, fmt.Appendf(nil, "listen = %q", ports[0])), nil
}
