package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/portable"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/install"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/supervisor"
)

// importDir is where the state is made of a snapshot of a peer, in the directory of the snapshots for
// peers.
const importDir = "import"

// stateSync is consensus.StateSync: it makes snapshots for peers at heights that all nodes share,
// hands them out, and takes one of theirs. What takes long is done by its service, an engine; what
// it holds outlives the service's incarnations.
type stateSync struct {
	n    *Node
	due  chan *storage.Pinned // what is to be made a snapshot of; one waits at most
	ripe chan ripe            // imported states that are to take the state's place

	mu     sync.Mutex
	list   []portable.Metadata  // what is offered, the oldest first
	used   map[uint64]time.Time // by height: when a peer was told of it, or took a chunk
	making uint64               // the height of what is due or being made; 0: none

	taking sync.Mutex // held for the next
	in     *incoming  // nil: nothing was offered
}

func newStateSync(n *Node) *stateSync {
	return &stateSync{n: n, due: make(chan *storage.Pinned, 1), ripe: make(chan ripe), used: make(map[uint64]time.Time)}
}

func (s *stateSync) dir() portable.Dir {
	return portable.Dir{FS: s.n.disk(), Path: home.StateSyncDir(s.n.home)}
}

func (s *stateSync) store() (storage.Client, error) {
	c := s.n.core.Load()
	if c == nil {
		return storage.Client{}, fmt.Errorf("storage: %w", engines.ErrDown)
	}
	return storage.NewClient(c.dir), nil
}

// Committed pins the state at the heights that are due: see consensus.StateSync. The block that
// comes next waits for this call, so what is pinned is the height's.
func (s *stateSync) Committed(ctx context.Context, at chain.State) {
	every := uint64(s.n.config.StateSync.EveryHeights)
	if every == 0 || at.Height%every != 0 {
		return
	}
	store, err := s.store()
	if err != nil {
		return
	}

	p, err := store.Pin(ctx)
	switch {
	case err != nil: // it is going down; the other nodes have this height
		s.n.diagnostics.Debug("no snapshot for peers", zap.Uint64("height", at.Height), zap.Error(err))
		return
	case p.Height() != at.Height:
		p.Close()
		return
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	select {
	case s.due <- p:
		if s.making == 0 {
			s.making = at.Height
		}
	default:
		p.Close()
		s.n.diagnostics.Warn("no snapshot for peers: the one before is still being made",
			zap.Uint64("height", at.Height))
	}
}

// Oldest is the lowest height of a snapshot: see consensus.StateSync.
func (s *stateSync) Oldest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) > 0 {
		return s.list[0].Height
	}
	return s.making
}

// List answers what is offered: see consensus.StateSync.
func (s *stateSync) List() []consensus.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()

	out := make([]consensus.Snapshot, len(s.list))

	for i, m := range s.list {
		s.used[m.Height] = s.n.now()
		out[len(out)-1-i] = consensus.Snapshot{
			Height: m.Height, Format: portable.Format, Chunks: uint32(len(m.Chunks)), Hash: m.Hash(),
			Metadata: m.Encode(),
		}
	}

	return out
}

// Chunk reads a chunk: see consensus.StateSync. A snapshot that turns out not to be what was
// written is not offered any more.
func (s *stateSync) Chunk(height uint64, format, index uint32) ([]byte, error) {
	s.mu.Lock()
	at := slices.IndexFunc(s.list, func(m portable.Metadata) bool { return m.Height == height })
	var m portable.Metadata

	if at >= 0 {
		m = s.list[at]
		s.used[height] = s.n.now()
	}

	s.mu.Unlock()

	if at < 0 || format != portable.Format {
		return nil, fmt.Errorf("%w: height %d, format %d", consensus.ErrNoSnapshot, height, format)
	}
	chunk, err := s.dir().Chunk(m, index)
	if errors.Is(err, portable.ErrNone) {
		return nil, fmt.Errorf("%w: %w", consensus.ErrNoSnapshot, err)
	}
	if errors.Is(err, portable.ErrChunk) {
		s.withdraw(m)
	}

	return chunk, err
}

// useTime is how long a snapshot stays after a peer was told of it, or took a chunk: a peer looks
// for snapshots for a while before it takes the newest.
const useTime = time.Minute

func (s *stateSync) inUse(m portable.Metadata) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.used[m.Height]
	return ok && s.n.now().Sub(at) < useTime
}

func (s *stateSync) withdraw(bad portable.Metadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(m portable.Metadata) bool { return bytes.Equal(m.Hash(), bad.Hash()) })
}

// startStateSync is the engine's StartFunc.
func (n *Node) startStateSync(context.Context) (supervisor.Service, error) {
	return stateSyncService{n.stateSync}, nil
}

// stateSyncService is one incarnation of the engine.
type stateSyncService struct{ *stateSync }

// String names the service in reports.
func (stateSyncService) String() string { return "state sync" }

// Serve makes snapshots and installs imported states until ctx ends.
func (s stateSyncService) Serve(ctx context.Context) error {
	if err := s.settle(ctx); err != nil {
		return err
	}
	if err := supervisor.Go(ctx, s.export); err != nil {
		return err
	}

	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f := <-supervisor.Faults(ctx):
			f.Do(ctx)
		case r := <-s.ripe:
			s.exchanged(ctx, r)
		}
	}
}

// exchanged installs, and tells what came of it whatever happens.
func (s *stateSync) exchanged(ctx context.Context, r ripe) {
	err := errors.New("the installation was cut short")
	defer func() { r.done <- err }()
	err = s.install(ctx, r)
}

// settle ends what an incarnation before, or a process, was in the middle of.
func (s *stateSync) settle(ctx context.Context) error {
	if err := s.settleDir(); err != nil {
		return err
	}
	in, err := install.ReadMarker(s.n.disk(), s.n.home)
	if err != nil {
		return err
	}
	if in.SnapshotID != "" {
		return s.recycleCore(ctx)
	}

	// the installation may have been cut between stop and start
	return supervisor.Revive(ctx, s.n.supervised.Load(), plan.Transactions)
}

func (s *stateSync) settleDir() error {
	if err := s.dir().Settle(); err != nil {
		return err
	}

	if s.taking.TryLock() { // else one is being taken, and waits for us
		var err error
		if s.in == nil {
			err = s.n.disk().RemoveAll(s.importPath())
		}
		s.taking.Unlock()
		if err != nil {
			return err
		}
	}

	keep := s.n.config.StateSync.Keep
	if s.n.config.StateSync.EveryHeights == 0 {
		keep = 0
	}
	list, err := s.dir().Keep(keep, nil) // whoever used one has lost the connection
	if err != nil {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	s.list = list
	if len(s.due) == 0 {
		s.making = 0
	}

	return nil
}

// export makes the snapshots that are due. What the disk refuses is told, and made at the next
// height that is due.
func (s *stateSync) export(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-s.due:
			s.make(ctx, p)
		}
	}
}

func (s *stateSync) make(ctx context.Context, p *storage.Pinned) {
	defer p.Close()

	began := time.Now()
	pace := pace{share: snapshotShare}
	m, err := s.dir().Take(ctx, p, portable.Taking{Pace: pace.wait})
	list, keepErr := s.dir().Keep(s.n.config.StateSync.Keep, s.inUse)
	s.mu.Lock()
	if keepErr == nil {
		s.list = list
	}

	maps.DeleteFunc(s.used, func(h uint64, _ time.Time) bool {
		return !slices.ContainsFunc(s.list, func(m portable.Metadata) bool { return m.Height == h })
	})

	if s.making = 0; len(s.due) > 0 {
		s.making = p.Height() + 1 // or above: low enough for Oldest
	}

	s.mu.Unlock()

	switch err := errors.Join(err, keepErr); {
	case ctx.Err() != nil, errors.Is(err, storage.ErrClosed):
	case err != nil:
		s.n.diagnostics.Warn("snapshot for peers failed", zap.Uint64("height", p.Height()), zap.Error(err))
	default:
		s.n.diagnostics.Info("snapshot for peers", zap.Uint64("height", m.Height), zap.Uint64("keys", m.Keys),
			zap.Uint64("bytes", m.Bytes),
			zap.Int("chunks", len(m.Chunks)), zap.Duration("took", time.Since(began)))
	}
}
