package child

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cometbft/cometbft/blocksync"
	cmtcons "github.com/cometbft/cometbft/consensus"
	"github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	bcproto "github.com/cometbft/cometbft/proto/tendermint/blocksync"
	ssproto "github.com/cometbft/cometbft/proto/tendermint/statesync"
	"github.com/cometbft/cometbft/types"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// ReportPrefix begins a line on stdout that carries a Report as JSON.
const ReportPrefix = "coppice-report "

// Report is what the process tells the node about its peers. CometBFT's RPC does not have all of
// it.
type Report struct {
	Configured []string          `json:"configured,omitempty"` // ids of the persistent peers
	Peers      []Peer            `json:"peers,omitempty"`      // connected
	Refused    map[string]string `json:"refused,omitempty"`    // persistent peers whose handshake fails, and why
	Snapshots  int               `json:"snapshots,omitempty"`  // offers of snapshots from peers
}

// Peer is a connected peer.
type Peer struct {
	ID     string        `json:"id"`
	Base   int64         `json:"base,omitempty"`   // the lowest block that it has kept; 0 if it is not known
	Height int64         `json:"height,omitempty"` // of its last committed block; 0 if it is not known
	Silent time.Duration `json:"silent,omitempty"` // since it was last heard from, in whole seconds
}

// ParseReport returns the Report of a line of stdout; ok is false for any other line.
func ParseReport(line string) (r Report, ok bool) {
	data, ok := strings.CutPrefix(line, ReportPrefix)
	return r, ok && json.Unmarshal([]byte(data), &r) == nil
}

// reportEvery is the time between two looks at the peers.
const reportEvery = 500 * time.Millisecond

// askRangesEvery is the time between two questions to the peers which blocks they have.
const askRangesEvery = 5 * time.Second

// reporter collects what a Report says, and prints it when it has changed.
type reporter struct {
	configured []string

	mu        sync.Mutex
	ranges    map[p2p.ID]Peer // by their block sync
	refused   map[string]string
	snapshots int
}

func newReporter(persistent string) *reporter {
	r := &reporter{ranges: make(map[p2p.ID]Peer), refused: make(map[string]string)}
	for p := range comethome.Listed(persistent) {
		id, _, _ := strings.Cut(p, "@")
		r.configured = append(r.configured, id)
	}
	return r
}

// run prints a report when it differs from the last one, until ctx ends.
func (r *reporter) run(ctx context.Context, sw *p2p.Switch, out io.Writer) {
	look := time.NewTicker(reportEvery)
	defer look.Stop()

	last, asked := "", time.Now()

	for {
		if time.Since(asked) >= askRangesEvery { // block sync asks only until it is done
			asked = time.Now()
			sw.BroadcastAsync(p2p.Envelope{ChannelID: blocksync.BlocksyncChannel, Message: &bcproto.StatusRequest{}})
		}

		if line := r.report(sw).line(); line != last {
			last = line
			fmt.Fprintln(out, line)
		}

		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

func (r Report) line() string {
	data, err := json.Marshal(r)
	if err != nil {
		return ReportPrefix + "{}" // cannot happen: the fields are plain
	}
	return ReportPrefix + string(data)
}

func (r *reporter) report(sw *p2p.Switch) Report {
	r.mu.Lock()
	defer r.mu.Unlock()

	out := Report{Configured: r.configured, Refused: make(map[string]string), Snapshots: r.snapshots}

	sw.Peers().ForEach(func(p p2p.Peer) {
		peer := r.ranges[p.ID()]
		peer.ID = string(p.ID())
		if ps, ok := p.Get(types.PeerStateKey).(*cmtcons.PeerState); ok {
			peer.Height = max(peer.Height, ps.GetHeight()-1) // it works on the next one
		}
		if idle := p.Status().RecvMonitor.Idle; idle > 2*time.Second {
			peer.Silent = idle.Truncate(time.Second)
		}
		out.Peers = append(out.Peers, peer)
		delete(r.refused, peer.ID)
	})

	for id, why := range r.refused {
		out.Refused[id] = why
	}

	slices.SortFunc(out.Peers, func(a, b Peer) int { return strings.Compare(a.ID, b.ID) })

	return out
}

// refuse notes that the handshake with a persistent peer has failed.
func (r *reporter) refuse(peer string, err error) {
	id, _, _ := strings.Cut(peer, "@")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused[id] = err.Error()
}

// watch makes the reactors of block sync and state sync tell r what they receive.
func (r *reporter) watch(n *node.Node) {
	sw, ok := n.Switch().(*p2p.Switch)
	if !ok {
		return
	}

	for _, name := range []string{"BLOCKSYNC", "STATESYNC"} {
		if reactor, ok := sw.Reactor(name); ok {
			sw.RemoveReactor(name, reactor)
			sw.AddReactor(name, watched(reactor, r))
		}
	}
}

// watched returns a reactor that passes everything on, and tells r.
func watched(reactor p2p.Reactor, r *reporter) p2p.Reactor {
	w := watchedReactor{reactor, r}
	if f, ok := reactor.(p2p.MsgBytesFilter); ok { // the switch looks for this by itself
		return filteredReactor{w, f}
	}
	return w
}

type watchedReactor struct {
	p2p.Reactor
	reporter *reporter
}

type filteredReactor struct {
	watchedReactor
	p2p.MsgBytesFilter
}

// Receive implements p2p.Reactor.
func (w watchedReactor) Receive(e p2p.Envelope) {
	w.reporter.received(e)
	w.Reactor.Receive(e)
}

// RemovePeer implements p2p.Reactor.
func (w watchedReactor) RemovePeer(p p2p.Peer, why any) {
	w.reporter.mu.Lock()
	delete(w.reporter.ranges, p.ID())
	w.reporter.mu.Unlock()
	w.Reactor.RemovePeer(p, why)
}

func (r *reporter) received(e p2p.Envelope) {
	r.mu.Lock()
	defer r.mu.Unlock()

	switch m := e.Message.(type) {
	case *bcproto.StatusResponse:
		r.ranges[e.Src.ID()] = Peer{Base: m.Base, Height: m.Height}
	case *ssproto.SnapshotsResponse:
		r.snapshots++
	}
}
