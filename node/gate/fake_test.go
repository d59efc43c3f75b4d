package gate

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/streams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sinks are Sinks that a test moves.
type sinks struct {
	mu      sync.Mutex
	of      map[string]Sink
	level   streams.AckLevel
	changed chan struct{}
	gone    []string // dropped
}

// dropped returns the sinks that were dropped.
func (s *sinks) dropped() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.gone)
}

func newSinks(names ...string) *sinks {
	s := &sinks{of: make(map[string]Sink), level: streams.Durable, changed: make(chan struct{})}
	for _, name := range names {
		s.of[name] = Sink{Known: true, State: "live"}
	}
	return s
}

func (s *sinks) Sink(name string) (Sink, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sink, ok := s.of[name]
	return sink, ok
}

func (s *sinks) Ack(name string) (streams.AckLevel, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.of[name]
	return s.level, ok
}

func (s *sinks) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.of))
}

func (s *sinks) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *sinks) Drop(name, _ string) error {
	s.mu.Lock()
	s.gone = append(s.gone, name)
	s.mu.Unlock()
	s.set(name, func(s *Sink) { s.Lost = true })
	return nil
}

// set changes a sink.
func (s *sinks) set(name string, f func(*Sink)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sink := s.of[name]
	f(&sink)
	s.of[name] = sink
	close(s.changed)
	s.changed = make(chan struct{})
}

// has moves a sink to a height.
func (s *sinks) has(name string, height uint64) {
	s.set(name, func(s *Sink) { s.At.Height, s.Progress = height, time.Now() })
}

// core is a transaction core that remembers what was ordered.
type core struct {
	mu      sync.Mutex
	state   chain.State
	decided *chain.Block
	ordered []uint64
}

func (c *core) Info(context.Context) (chain.Standing, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return chain.Standing{Committed: c.state, Leftover: c.decided}, nil
}

func (c *core) Order(_ context.Context, b chain.Block) (chain.Staged, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.decided = &b
	c.ordered = append(c.ordered, b.Height)
	return chain.Staged{Block: b}, nil
}

func (c *core) Commit(_ context.Context, height uint64) (chain.State, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.decided = nil
	c.state.Height = height
	return c.state, nil
}

func (c *core) heights() []uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.ordered)
}

// rig is gates before a core.
type rig struct {
	*Gates
	*sinks
	core *core
	door consensus.Ordering
	o    Options

	mu     sync.Mutex
	halted []*HaltError
	told   []Status
}

// halts returns the halts so far.
func (r *rig) halts() []*HaltError {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.halted)
}

// phases returns what Changed was told so far.
func (r *rig) phases() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.told)
}

// open makes the gates of a file of gates over sinks that all stand at 0.
func open(t *testing.T, toml string, names ...string) *rig {
	t.Helper()
	r := &rig{sinks: newSinks(names...), core: &core{}}
	r.o = Options{File: write(t, toml), Data: t.TempDir(), Sinks: r.sinks,
		Halt: func(h *HaltError) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.halted = append(r.halted, h)
		},
		Changed: func(s Status) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.told = append(r.told, s)
		}}
	r.begin(t)
	return r
}

// begin begins a process.
func (r *rig) begin(t *testing.T) {
	t.Helper()
	var err error
	r.Gates, err = New(r.o)
	require.NoError(t, err)
	r.door = r.Wrap(onlyCore{core: r.core})
}

// onlyCore has the rest of Ordering, which nothing calls.
type onlyCore struct {
	consensus.Ordering
	core *core
}

func (o onlyCore) Info(ctx context.Context) (chain.Standing, error) { return o.core.Info(ctx) }
func (o onlyCore) Order(ctx context.Context, b chain.Block) (chain.Staged, error) {
	return o.core.Order(ctx, b)
}
func (o onlyCore) Commit(ctx context.Context, h uint64) (chain.State, error) {
	return o.core.Commit(ctx, h)
}

func block(height uint64) chain.Block {
	return chain.Block{ChainID: "test", Height: height, Hash: []byte{byte(height)}}
}

// pass makes blocks from one height to another, which must not wait.
func (r *rig) pass(t *testing.T, from, to uint64) {
	t.Helper()
	for h := from; h <= to; h++ {
		begun := time.Now()
		_, err := r.door.Order(t.Context(), block(h))
		require.NoError(t, err)
		_, err = r.door.Commit(t.Context(), h)
		require.NoError(t, err)
		require.Equal(t, begun, time.Now(), "block %d waited", h)
	}
}

// order orders a block in the background. done is closed once it has passed; stop ends the call.
func (r *rig) order(t *testing.T, height uint64) (done chan error, stop context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	done = make(chan error, 1)
	go func() {
		_, err := r.door.Order(ctx, block(height))
		done <- err
	}()
	return done, cancel
}
