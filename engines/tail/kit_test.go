package tail_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/tail"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// home has a log that can be closed and opened again, as when a logger restarts, and a bus that
// carries the news of durable records.
type home struct {
	t    testing.TB
	dir  string
	opts eventlog.Options
	bus  *pubsub.Bus[engines.Event]
	run  *supervisor.Run

	mu      sync.Mutex
	log     *eventlog.Log
	changed chan struct{}
	told    sync.WaitGroup // the publisher of log
}

// small makes segments of a few records, so that truncation has something to remove.
var small = eventlog.Options{SegmentSize: 8 << 10, MaxRecord: 8 << 10}

// inBubble runs a test in a bubble of fake time. Time passes there only while every goroutine
// waits.
func inBubble(t *testing.T, test func(h *home)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(newHome(t, small)) })
}

func newHome(t testing.TB, o eventlog.Options) *home {
	h := &home{t: t, dir: filepath.Join(t.TempDir(), "log"), opts: o, changed: make(chan struct{})}
	var err error
	h.bus, err = pubsub.New[engines.Event](pubsub.Options{})
	require.NoError(t, err)
	spec := h.bus.Spec()
	spec.Intensity = supervisor.Intensity{Max: 1_000_000, Period: 1}
	s, err := supervisor.New(spec)
	require.NoError(t, err)
	h.run, err = s.Start(context.Background())
	require.NoError(t, err)
	require.NoError(t, h.bus.WaitUp(context.Background()))

	h.open()
	t.Cleanup(func() {
		h.close()
		_ = h.run.Stop(context.Background())
	})

	return h
}

func (h *home) open() {
	l, err := eventlog.Open(h.dir, h.opts)
	require.NoError(h.t, err)
	cur, err := l.Cursor(l.Durable() + 1)
	require.NoError(h.t, err)

	h.told.Go(func() {
		defer cur.Close()
		for {
			e, err := cur.Next(context.Background())
			if err != nil {
				return
			}
			_ = h.bus.Publish(engines.RecordLogged{Index: e.Index, Kind: e.Kind})
		}
	})

	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = l
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *home) close() {
	h.mu.Lock()
	l := h.log
	h.log = nil
	h.mu.Unlock()

	if l != nil {
		require.NoError(h.t, l.Close())
		h.told.Wait()
	}
}

var errDown = errors.New("the log is closed")

func (h *home) now() (*eventlog.Log, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.log == nil {
		return nil, errDown
	}
	return h.log, nil
}

func (h *home) Cursor(_ context.Context, from uint64) (*eventlog.Cursor, error) {
	l, err := h.now()
	if err != nil {
		return nil, err
	}
	return l.Cursor(from)
}

func (h *home) Stat(context.Context) (s eventlog.Stat, err error) {
	l, err := h.now()
	if err != nil {
		return s, err
	}
	return l.Stat(), nil
}

func (h *home) Retain(_ context.Context, name string, floor uint64) (*eventlog.Retainer, error) {
	l, err := h.now()
	if err != nil {
		return nil, err
	}
	return l.Retain(name, floor), nil
}

// append appends records of these kinds, each of 1,000 bytes.
func (h *home) append(kinds ...eventlog.Kind) {
	h.t.Helper()
	l, err := h.now()
	require.NoError(h.t, err)
	for _, k := range kinds {
		_, err := l.AppendWait(context.Background(), eventlog.Record{Kind: k, Data: make([]byte, 1000)})
		require.NoError(h.t, err)
	}
}

// truncate removes what it can below an index, and returns the index of the first record that is
// left.
func (h *home) truncate(before uint64) uint64 {
	h.t.Helper()
	l, err := h.now()
	require.NoError(h.t, err)
	_, err = l.Truncate(before)
	require.NoError(h.t, err)
	return l.First()
}

const (
	launched  = chain.KindTxLaunched
	committed = chain.KindBlockCommitted
)

// many returns n records of a kind.
func many(n int, k eventlog.Kind) []eventlog.Kind {
	kinds := make([]eventlog.Kind, n)
	for i := range kinds {
		kinds[i] = k
	}
	return kinds
}

// tail makes a Tail of the log. If onBus is set, the bus wakes it.
func (h *home) tail(onBus bool, o tail.Options) *tail.Tail {
	o.Log = func() (tail.Log, error) {
		_, err := h.now()
		return h, err
	}
	if onBus {
		o.Bus, o.Chain = h.bus, pubsub.Chain[engines.Event]{byKinds(o.Kinds)}
	}

	t := tail.New(o)
	h.t.Cleanup(t.Close)
	return t
}

var ofKind = pubsub.Where("kind", func(e engines.Event, value string) bool {
	r, ok := e.(engines.RecordLogged)
	return ok && (value == "" || value == chain.KindName(r.Kind))
})

func byKinds(kinds []eventlog.Kind) pubsub.Filter[engines.Event] {
	if len(kinds) == 1 {
		return ofKind.Is(chain.KindName(kinds[0]))
	}
	return ofKind.Is("")
}

// next requires the next item to be the record, or the mark, of an index.
func next(t testing.TB, r *tail.Tail, index uint64, mark bool) {
	t.Helper()
	it, err := r.Next(context.Background())
	require.NoError(t, err)
	require.Equal(t, index, it.Index)
	require.Equal(t, mark, it.Mark, "record %d", index)
	require.Equal(t, index, r.At())
}

// both runs a test with a bus and without.
func both(t *testing.T, test func(h *home, onBus bool)) {
	for name, onBus := range map[string]bool{"woken by the bus": true, "woken by the log": false} {
		t.Run(name, func(t *testing.T) { inBubble(t, func(h *home) { test(h, onBus) }) })
	}
}
