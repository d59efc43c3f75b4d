package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/supervisor"
)

// openStreams reads the definitions and the slots of the home. Errors are exit.ErrConfig.
func (n *Node) openStreams() (err error) {
	if len(n.factories) == 0 {
		return nil
	}

	n.streams, err = streams.New(streams.Options{
		Definitions: home.StreamsDir(n.home), Data: home.StreamsDataDir(n.home), Factories: n.factories,
		Log: n.streamsLog, ChainID: func() string { return n.genesis.ChainId }, Holder: holder(n.home),
		Alone: !n.traits.StateSync, Memory: n.config.Streams.Memory,
		Deadline: time.Duration(n.config.Streams.Deadline), Lease: time.Duration(n.config.Streams.Lease),
		Snapshots: n.snaps.ForStreams(), Versions: &versions{figures{node: n}}, Request: votesOf(n.traits.Votes),
		KeepsAll: n.config.Log.Retain == config.RetainAll, Scarce: n.scarce,
		Acked:    func(slot string, took time.Duration) { n.meter.StreamAcked(slot, took) },
		Required: func(name string) bool { return len(n.gates.Of(name)) > 0 },
		Without:  n.without, Diagnostics: n.diagnostics, Now: n.now,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	return nil
}

// votesOf returns the decoder of a driver's requests as streams use it; nil: it has none.
func votesOf(votes func([]byte) ([]consensus.CommitVote, []consensus.Misbehavior, error)) streams.RequestDecoder {
	if votes == nil {
		return nil
	}
	return func(request []byte) (list []streams.Vote, proofs []streams.Misbehavior, err error) {
		said, proved, err := votes(request)
		for _, v := range said {
			list = append(list, streams.Vote(v))
		}
		for _, m := range proved {
			proofs = append(proofs, streams.Misbehavior(m))
		}
		return list, proofs, err
	}
}

// heldVersions returns the oldest position whose versions a sink needs.
func (n *Node) heldVersions() (streams.Position, bool) {
	if n.streams == nil {
		return streams.Position{}, false
	}
	return n.streams.HoldsVersions()
}

// versions reads the state's old versions for streams. It implements streams.Versions.
type versions struct{ figures }

// At reads a key as it was after a unit.
func (v *versions) At(ctx context.Context, key []byte, at streams.Position) (value []byte, found bool, err error) {
	store, _, err := v.clients()
	if err != nil {
		return nil, false, err
	}
	value, found, err = store.GetOf(ctx, key, at.Period, at.Height)
	if errors.Is(err, storage.ErrPruned) {
		err = fmt.Errorf("%w: %w", streams.ErrNoVersion, err)
	}
	return value, found, err
}

// Oldest returns the oldest position that At can read.
func (v *versions) Oldest(ctx context.Context) (streams.Position, error) {
	store, _, err := v.clients()
	if err != nil {
		return streams.Position{}, err
	}
	st, err := store.Stat(ctx)
	return streams.Position{Period: st.OldestPeriod, Height: st.OldestHeight}, err
}

// scarce reports whether the disk has less free space than streams.keep_free.
func (n *Node) scarce() bool { return n.space.Below(uint64(n.config.Streams.KeepFree), n.now()) }

// holder names the node in the claims of sinks.
func holder(dir string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s:%s (process %d)", host, dir, os.Getpid())
}

// streamsLog returns the event log of the current run of the node.
func (n *Node) streamsLog() (streams.Log, error) {
	c := n.core.Load()
	if c == nil {
		return nil, fmt.Errorf("%w: the node has not started", api.ErrUnavailable)
	}
	return logger.NewClient(c.dir), nil
}

// apiOptions returns the options of NodeService.
func (n *Node) apiOptions() api.NodeOptions {
	o := api.NodeOptions{Meter: n.meter.Request}
	if n.streams != nil {
		o.Sinks = n.streams
	}
	return o
}

// withStreams adds the engine of streams to a plan, if the program has sinks.
func (n *Node) withStreams(p plan.Place) plan.Place {
	if len(n.factories) == 0 {
		return p
	}
	return p.WithStreams(n.config.Profile)
}

// buildStreams returns the engine of streams, if the program has sinks.
func (n *Node) buildStreams(c *core) []supervisor.Child {
	if n.streams == nil {
		return nil
	}

	at := n.plan.Find(plan.PathEngines).Find(plan.Streams)
	child := at.Nested(func() ([]supervisor.Child, error) {
		manager, slots, err := n.streams.Engine(at.Find(streams.SlotsID).Intensity)
		if err != nil {
			return nil, err
		}
		return []supervisor.Child{
			at.Find(streams.ManagerID).Child(manager),
			at.Find(streams.SlotsID).Child(slots),
		}, nil
	})
	child.Start = withLog(c, child.Start)

	return []supervisor.Child{child}
}

// Streams returns the slots of the node, or nil if the program has no sinks (WithSink). They
// outlive the runs of the tree.
func (n *Node) Streams() *streams.Streams { return n.streams }

// StreamStatus implements api.Streams.
func (n *Node) StreamStatus(ctx context.Context, name string) (streams.Status, error) {
	var head streams.Head
	var stat eventlog.Stat
	if c := n.core.Load(); c != nil {
		brief, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if st, err := logger.NewClient(c.dir).Stat(brief); err == nil {
			stat = st
		}
		if st, err := storage.NewClient(c.dir).State(brief); err == nil {
			head = streams.Head{Position: streams.Position{Period: st.Period, Height: st.Height}, Time: st.Time}
		}
	}
	return n.streams.Status(name, head, stat)
}

// streamFigures returns the figures of the slots. It asks no engine.
func (n *Node) streamFigures(head chain.State) (list []streams.Status) {
	if n.streams == nil {
		return nil
	}

	var stat eventlog.Stat
	if l := n.eventLog.Load(); l != nil {
		stat = l.Stat()
	}
	at := streams.Head{Position: streams.Position{Period: head.Period, Height: head.Height}, Time: head.Time}
	for _, name := range n.streams.Names() {
		if st, err := n.streams.Status(name, at, stat); err == nil { // or it was dropped just now
			list = append(list, st)
		}
	}

	return list
}
