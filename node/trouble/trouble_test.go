package trouble_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/node/trouble"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor"
)

// rig is a Watcher whose sources and clock a test sets.
type rig struct {
	*trouble.Watcher
	now       time.Time
	condition consensus.Condition
	engines   []engines.Stat
	streams   []streams.Status
	filters   pubsub.Stats
	sync      time.Duration
	free      uint64
	orphans   []supervisor.Orphan
}

func newRig() *rig {
	r := &rig{now: time.Now(), condition: consensus.Condition{State: consensus.Ready}, free: 1 << 40}
	r.Watcher = trouble.New(trouble.Sources{
		Condition: func() consensus.Condition { return r.condition },
		Engines:   func() []engines.Stat { return r.engines },
		Streams:   func() []streams.Status { return r.streams },
		Filters:   func() pubsub.Stats { return r.filters }, Mailbox: 100,
		Orphans: func() []supervisor.Orphan { return r.orphans },
		Sync:    func() (time.Duration, int) { return r.sync, 3 },
		Disk:    func() (free, size uint64, ok bool) { return r.free, 1 << 41, true },
	}, func() time.Time { return r.now })
	return r
}

// after looks n times, a second apart, and returns what the last look has found.
func (r *rig) after(n int) []trouble.Trouble {
	for range n {
		r.now = r.now.Add(time.Second)
		r.Look()
	}
	return r.Troubles()
}

func (r *rig) crash(path string, err error) {
	r.Observe(supervisor.ChildExited{Header: supervisor.Header{Path: path, Time: r.now},
		Exit: supervisor.Exit{Class: supervisor.Abnormal, Err: err}})
}

// A well node has no troubles, and what passes within a moment is none.
func TestAWellNodeHasNone(t *testing.T) {
	r := newRig()
	r.engines = []engines.Stat{{Name: "pool", Len: 10, Cap: 100, InHand: "x", Handling: time.Second}}
	r.streams = []streams.Status{{Name: "out", State: streams.CatchingUp, LagHeights: 10}}
	r.condition = consensus.Condition{State: consensus.Starting, Reason: "replay", Since: r.now}
	r.crash("a/b", errors.New("once"))
	r.crash("a/b", errors.New("twice"))
	require.Empty(t, r.after(3))

	r.engines[0].Len = 100
	require.Empty(t, r.after(1), "a mailbox that is full for a moment")
	require.Len(t, r.after(1), 1)
	r.engines[0].Len = 0
	require.Empty(t, r.after(1), "it has ended")
}

// Three ends of one child within a minute are a loop, until a minute after the last one.
func TestACrashLoop(t *testing.T) {
	r := newRig()
	for i := range 4 {
		r.crash("a/b", fmt.Errorf("end %d\nof a child", i))
		r.now = r.now.Add(10 * time.Second)
	}
	list := r.after(1)
	require.Len(t, list, 1)
	require.Equal(t, trouble.CrashLoop, list[0].Kind)
	require.Equal(t, "a/b crashes again and again: 4 times in 41s, the last time by: end 3 of a child", list[0].Text)
	require.Equal(t, "a/b", list[0].Where)

	require.Len(t, r.after(20), 1)
	require.Empty(t, r.after(41))
}

// A transaction whose worker ends without a result is named, by the pool that ends with it.
func TestAPoisonedTransaction(t *testing.T) {
	r := newRig()
	id := chain.HashTx([]byte("tx"))
	for range 3 {
		r.crash("mempool/pool", fmt.Errorf("pool: %w", &mempool.WorkerLostError{ID: id, Err: errors.New("no callee")}))
	}
	list := r.after(1)
	require.Len(t, list, 2)
	require.Equal(t, trouble.Poisoned, list[0].Kind, "the gravest first")
	require.Equal(t, id.String(), list[0].Where)
	require.Contains(t, list[0].Text, "3 times")
	require.Equal(t, trouble.CrashLoop, list[1].Kind)
}

// Orphans are known by their events; if some were lost, the tree is asked.
func TestOrphans(t *testing.T) {
	r := newRig()
	o := supervisor.Orphan{Path: "a/deaf", Incarnation: 7, Since: r.now}
	r.Observe(supervisor.ChildOrphaned{Orphan: o})
	list := r.after(5)
	require.Len(t, list, 1)
	require.Contains(t, list[0].Text, "incarnation 7 of a/deaf was told to stop and still runs, for 5s")
	require.Equal(t, o.Since, list[0].Since)

	r.Observe(supervisor.EventsDropped{Count: 1})
	require.Empty(t, r.after(1), "it has ended, and the event was lost")
	r.orphans = []supervisor.Orphan{o}
	r.Observe(supervisor.EventsDropped{Count: 1})
	require.Len(t, r.after(1), 1)
	r.Observe(supervisor.OrphanEnded{Header: supervisor.Header{Incarnation: 7}})
	require.Empty(t, r.after(1))
}

// Each fact leads to one line that names the place and says what to do.
func TestEachFactHasALine(t *testing.T) {
	for _, row := range []struct {
		kind  trouble.Kind
		plant func(*rig)
		text  string
		grave bool
	}{
		{"no_quorum", func(r *rig) { r.condition.Is(consensus.NoQuorum, "10 of 40") },
			"not ready, no quorum: 10 of 40", true},
		{"clock_ahead", func(r *rig) { r.condition.Warn(consensus.ClockAhead, "by 20 s") }, "by 20 s", false},
		{trouble.Process, func(r *rig) { r.condition.Process = &consensus.Process{State: "stalled", Text: "no block"} },
			"the process of the consensus is stalled: no block", false},
		{trouble.Stuck, func(r *rig) {
			r.engines = []engines.Stat{{Name: "storage", InHand: "storage.get", Handling: 6 * time.Second}}
		}, "storage is stuck with one message; storage.get is in hand for 6s", false},
		{trouble.SlowDisk, func(r *rig) { r.sync = 150 * time.Millisecond },
			"a sync of the event log takes 150ms", false},
		{trouble.DiskLow, func(r *rig) { r.free = 1 << 29 }, "512 MiB of 2097152 MiB are free", false},
		{trouble.Lagging, func(r *rig) {
			r.streams = []streams.Status{{Name: "out", State: streams.Retrying, LagHeights: 3, LagSeconds: 4,
				Last: &streams.Cause{Class: "unreachable", Text: "secret host"}}}
		}, "the sink of the stream out lags: it lacks 3 blocks, 4 s of block time (retrying); its last failure is of " +
			"the class unreachable", false},
		{trouble.StreamDown, func(r *rig) { r.streams = []streams.Status{{Name: "out", State: streams.InGap}} },
			"the stream out is gap and waits for an operator", false},
		{trouble.HotFilter, func(r *rig) {
			r.filters.Agents = []pubsub.AgentStats{{ID: "1", Chain: "reason=x", Waiting: 90, Subscribers: 2}}
		}, "the filter reason=x does not keep up: 90 events wait for it", false},
	} {
		r := newRig()
		row.plant(r)
		list := r.after(3)
		require.Len(t, list, 1, row.kind)
		require.Equal(t, row.kind, list[0].Kind)
		require.Contains(t, list[0].Text, row.text)
		require.Equal(t, row.grave, list[0].Grave, row.kind)
		require.NotEmpty(t, list[0].Advice, row.kind)
		require.NotEmpty(t, list[0].Page, row.kind)
		require.False(t, list[0].Since.IsZero(), row.kind)
	}
}

// A filter that has lost events is hot until it has lost none for a while.
func TestAFilterThatLosesEvents(t *testing.T) {
	r := newRig()
	r.filters.Agents = []pubsub.AgentStats{{ID: "1", Chain: "reason=x", Missed: 5}}
	require.Len(t, r.after(1), 1)
	require.Len(t, r.after(9), 1)
	require.Empty(t, r.after(3))
}

// A node is stuck in its start if that takes more than a minute.
func TestALongStart(t *testing.T) {
	r := newRig()
	r.condition = consensus.Condition{State: consensus.Starting, Reason: "logger is starting", Since: r.now}
	require.Empty(t, r.after(30))
	require.Len(t, r.after(31), 1)
}
