package testnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/coppice-go/coppice/engines/consensus/comet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
)

// AddOptions say how one more node joins.
type AddOptions struct {
	// StateSync makes the node begin with a snapshot of the other nodes instead of the first block.
	StateSync bool `json:"state_sync,omitempty"`
}

// Add adds a node, which is no validator, to a running testnet, with the configuration of node 0.
// It returns the node's index, and does not wait until the node has caught up with the others.
func (n *Net) Add(ctx context.Context, o AddOptions) (i int, err error) {
	if err := n.ask(ctx, request{Add: &o}); err != nil {
		return 0, err
	}
	now, err := Open(n.Dir)
	if err != nil {
		return 0, err
	}

	*n = *now

	return n.Nodes - 1, nil
}

// addTime bounds how long making a node takes. The caller of Add waits a little longer.
const addTime = 8 * time.Second

// add makes a node and starts it.
func (r *running) add(o AddOptions) (err error) {
	i := r.Nodes
	if i == MaxNodes {
		return fmt.Errorf("there are %d nodes already, which is the most", i)
	}

	ctx, cancel := context.WithTimeout(context.Background(), addTime)
	defer cancel()

	home := r.Home(i)
	if err := os.RemoveAll(home); err != nil { // an attempt to add this node that failed has left it behind
		return err
	}

	links, err := r.makeNode(ctx, i, o)
	if err != nil {
		for _, l := range links {
			l.listener.Close()
		}
		return errors.Join(err, os.RemoveAll(home))
	}

	next := *r.Net
	next.Nodes, next.Added = next.Nodes+1, next.Added+1
	if err := next.write(); err != nil {
		return err
	}

	r.Nodes, r.Added = next.Nodes, next.Added
	r.links = append(r.links, links...)

	for _, c := range append(linkChildren(links), r.nodeChild(i)) {
		if _, err := r.sup.StartChild(ctx, c); err != nil {
			return err
		}
	}

	return nil
}

// makeNode makes the home of a node, and its links to the existing nodes.
func (r *running) makeNode(ctx context.Context, i int, o AddOptions) (links []*link, err error) {
	first, dir := r.Home(0), r.Home(i)
	genesis, err := home.ReadGenesis(first)
	if err != nil {
		return nil, err
	}

	if _, err := home.Init(dir, home.InitOptions{
		Genesis: &genesis, Listen: "127.0.0.1:0",
		Set: []config.Assignment{{Key: "consensus.kind", Value: comet.Name, Flag: "--consensus"}},
	}); err != nil {
		return nil, err
	}

	comets := func(home, name string) string { return filepath.Join(comethome.Dir(home), "config", name) }
	for from, to := range map[string]string{
		filepath.Join(first, "coppice.toml"): filepath.Join(dir, "coppice.toml"),
		comets(first, "config.toml"):         comets(dir, "config.toml"),
		comets(first, "genesis.json"):        comets(dir, "genesis.json"),
	} {
		data, err := os.ReadFile(from)
		if err == nil && filepath.Base(to) == config.FileName {
			data, err = moveAPI(data)
		}
		if err == nil {
			err = os.WriteFile(to, data, 0o644)
		}
		if err != nil {
			return nil, err
		}
	}

	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}

	var peers, rpcs []string

	for j := range i {
		id, err := comethome.ReadIdentity(comethome.Dir(r.Home(j)))
		if err != nil {
			return links, err
		}
		p2p, rpc, err := comethome.Addresses(comethome.Dir(r.Home(j)))
		if err != nil {
			return links, err
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return links, err
		}

		links = append(links, &link{from: i, to: j, listener: l, target: p2p})
		peers, rpcs = append(peers, id.NodeID+"@"+l.Addr().String()), append(rpcs, rpc)
	}

	if err := comethome.SetNetwork(comethome.Dir(dir),
		comethome.Network{Moniker: fmt.Sprintf("node%d", i), P2P: ports[0],
			RPC: ports[1], Peers: peers}); err != nil {
		return links, err
	}

	api, err := r.apiLinks(i)
	if links = append(links, api...); err != nil {
		return links, err
	}

	if o.StateSync {
		err = begin(ctx, comethome.Dir(dir), rpcs)
	}

	return links, err
}

// begin configures the home of a new node so that it begins with a snapshot, and trusts the
// existing nodes, which rpcs names.
func begin(ctx context.Context, home string, rpcs []string) (err error) {
	var s comethome.StateSync
	var errs []error

	for _, a := range rpcs {
		if s.Height, s.Hash, err = comethome.OldestBlock(ctx, a); err == nil {
			s.RPC = append(rpcs, a) // a is listed twice, because two are required even if there is only one node
			return comethome.SetStateSync(home, s)
		}
		errs = append(errs, err)
	}

	return fmt.Errorf("no node to trust answers: %w", errors.Join(errs...))
}

// write replaces the testnet's file atomically.
func (n *Net) write() error {
	data, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	return durable.OS.Replace(filepath.Join(n.Dir, fileName), append(data, '\n'), 0o644)
}
