package testnet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
)

// RunOptions say how to run a testnet.
type RunOptions struct {
	Bin string    // the coppice binary
	Out io.Writer // receives what the nodes print, line by line, each after its node's name
	Env []string  // names further variables that the nodes inherit

	Level string // lowest level of the nodes' diagnostics; empty: warn

	Starting func() // called when this run has the testnet, before its nodes start; may be nil
}

// nodeGrace is how long a node may take to stop in order.
const nodeGrace = 20 * time.Second

// Run runs the testnet until ctx ends, and then stops it in order. A node that ends by itself is
// started again. The control socket exists while the testnet runs.
func (n *Net) Run(ctx context.Context, o RunOptions) error {
	r := &running{Net: n, RunOptions: o}
	var err error
	if err = r.take(ctx); err != nil { // first, so that a testnet that runs is not changed
		return err
	}
	defer r.release()
	defer r.closeLinks()

	if err := r.wire(); err != nil {
		return err
	}
	if o.Starting != nil {
		o.Starting()
	}
	r.sup, err = supervisor.New(supervisor.Spec{
		Name: "testnet", Intensity: supervisor.Intensity{Max: 10_000, Period: time.Minute}, Build: r.build,
	})
	if err != nil {
		return err
	}
	if err = r.sup.Serve(ctx); ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil
	}

	return err
}

// running is a run of a testnet.
type running struct {
	*Net
	RunOptions
	sup   *supervisor.Supervisor
	links []*link

	lockFile io.Closer    // held, so that no other run takes this testnet
	control  net.Listener // the control socket's first listener
	taken    bool         // the first incarnation of the child control has used it

	changing sync.Mutex // guards nodes and links while the testnet runs

	mu sync.Mutex // guards Out
}

// wire gives the nodes their addresses, which are those of the previous run if they are free. Each
// pair has a link in each direction, so that a node that
// comes back need not wait to be dialled.
func (r *running) wire() error {
	p2p, rpc, err := r.addresses()
	if err != nil {
		return err
	}

	ids := make([]string, r.Nodes)
	for i := range ids {
		id, err := comethome.ReadIdentity(comethome.Dir(r.Home(i)))
		if err != nil {
			return err
		}
		ids[i] = id.NodeID
	}

	for i := range r.Nodes {
		var peers []string
		for j := range r.Nodes {
			if j == i {
				continue
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}

			r.links = append(r.links, &link{from: i, to: j, listener: l, target: p2p[j]})
			peers = append(peers, ids[j]+"@"+l.Addr().String())
		}

		if err := comethome.SetNetwork(comethome.Dir(r.Home(i)),
			comethome.Network{P2P: p2p[i], RPC: rpc[i], Peers: peers}); err != nil {
			return err
		}
		if err := comethome.MoveStateSync(comethome.Dir(r.Home(i)), others(rpc, i)); err != nil {
			return err
		}
	}

	for i := range r.Nodes {
		links, err := r.apiLinks(i)
		if r.links = append(r.links, links...); err != nil {
			return err
		}
	}

	return nil
}

// addresses returns the addresses at which the CometBFT of each node listens.
func (r *running) addresses() (p2p, rpc []string, err error) {
	had := make([]string, 2*r.Nodes)
	for i := range r.Nodes {
		p, q, err := comethome.Addresses(comethome.Dir(r.Home(i)))
		if err != nil {
			return nil, nil, err
		}
		had[i], had[r.Nodes+i] = p, q
	}

	for i, addr := range had { // each new home has CometBFT's default addresses
		if strings.HasSuffix(addr, ":26656") || strings.HasSuffix(addr, ":26657") {
			had[i] = ""
		}
	}

	ports, err := claimPorts(had)
	if err != nil {
		return nil, nil, err
	}

	return ports[:r.Nodes], ports[r.Nodes:], nil
}

// others returns the elements of list except the one at i. It returns two at least: a node that
// begins with a snapshot has to trust two, even if there is only one.
func others(list []string, i int) []string {
	rest := slices.Delete(slices.Clone(list), i, i+1)
	if len(rest) == 1 {
		rest = append(rest, rest[0])
	}
	return rest
}

func (r *running) closeLinks() {
	for _, l := range r.links {
		l.listener.Close()
	}
}

func (r *running) build(context.Context) ([]supervisor.Child, error) {
	children := append([]supervisor.Child{{ID: "control", Start: r.startControl}}, linkChildren(r.links)...)
	for i := range r.Nodes {
		children = append(children, r.nodeChild(i))
	}
	return children, nil
}

func linkChildren(links []*link) (children []supervisor.Child) {
	for _, l := range links {
		children = append(children, supervisor.Child{ID: l.id(), Start: l.start})
	}
	return children
}

func (r *running) nodeChild(i int) supervisor.Child {
	name := fmt.Sprintf("node%d", i)
	level := cmp.Or(r.Level, "warn")
	args := append([]string{"start", "--home", r.Home(i), "--log-level", level}, r.resetFlags(i)...)
	c := process.Child(process.Spec{
		Name: name, Path: r.Bin, Args: args,
		Env:    process.Inherit(append([]string{"PATH", "HOME", "TMPDIR", "GORACE", "GOCOVERDIR"}, r.Env...)...),
		Stdout: r.printer(name), Stderr: r.printer(name),
		Grace: nodeGrace, ExitZero: process.ExitZeroAbnormal, NullStdin: true,
	})
	c.Backoff = supervisor.Backoff{Min: 10 * time.Millisecond, Max: 5 * time.Second, Factor: 4}
	return c
}

// printer returns a function that writes a node's lines to Out.
func (r *running) printer(name string) func([]byte) {
	return func(line []byte) {
		r.mu.Lock()
		defer r.mu.Unlock()
		fmt.Fprintf(r.Out, "%s %s\n", name, line)
	}
}

// pid returns the process id of a node, or 0 if it does not run.
func (r *running) pid(i int) int {
	info, err := r.sup.WhichChild(fmt.Sprintf("node%d", i))
	if err != nil {
		return 0
	}
	if p, ok := info.Ref.Info().(process.Info); ok && info.Ref.Alive() {
		return p.PID
	}
	return 0
}

// partition shuts the links between groups and opens the others. Nodes that are in no group form
// one more group.
func (r *running) partition(groups [][]int) error {
	of, err := r.GroupOf(groups)
	if err != nil {
		return err
	}
	for _, l := range r.links {
		l.gate.set(of[l.from] != of[l.to])
	}
	return nil
}

// GroupOf returns the number of each node's group, or 0 for a node in no group. It returns an error
// for a node that does not exist, or that is in two groups.
func (n *Net) GroupOf(groups [][]int) ([]int, error) {
	of := make([]int, n.Nodes)
	for g, members := range groups {
		for _, i := range members {
			switch {
			case i < 0 || i >= n.Nodes:
				return nil, fmt.Errorf("node %d: want 0 to %d", i, n.Nodes-1)
			case of[i] != 0:
				return nil, fmt.Errorf("node %d is in two groups", i)
			}
			of[i] = g + 1
		}
	}

	return of, nil
}

// socketPath returns the path of the control socket. If the path in the testnet's directory is too
// long for a socket, it returns one in the temporary directory.
func (n *Net) socketPath() string {
	p, err := filepath.Abs(filepath.Join(n.Dir, "testnet.sock"))
	if err != nil || len(p) > 100 {
		return filepath.Join(os.TempDir(), fmt.Sprintf("coppice-testnet-%s-%d.sock", n.ChainID, os.Getuid()))
	}
	return p
}
