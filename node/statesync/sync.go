package statesync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/portable"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/install"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/node/retention"
	"github.com/coppice-go/coppice/supervisor"
)

// ImportDir is where the state is made of a snapshot of a peer, in the directory of the snapshots
// for peers.
const ImportDir = "import"

// syncOptions are what state sync needs of a node.
type Options struct {
	Home        string
	Disk        vfs.FS
	Config      config.StateSyncConfig
	Version     string // of the program
	Diagnostics *zap.Logger
	Now         func() time.Time

	// Directory resolves the engines of the current run of the node; it is nil before the first.
	Directory func() engines.Directory

	// Supervised returns the supervisor of the node's children in the current run.
	Supervised func() *supervisor.Supervisor

	Snapshots *retention.Snapshotter
	Installs  *install.Mutex

	// Die ends the process: the files of the state are held by an operation that failed for good.
	Die func(error)
}

// stateSync is consensus.StateSync: it makes snapshots for peers at heights that all nodes share,
// hands them out, and takes one of theirs. What takes long is done by its service, an engine; what
// it holds outlives the service's incarnations.
type Sync struct {
	Options
	due  chan *storage.Pinned // what is to be made a snapshot of; one waits at most
	ripe chan pendingInstall  // imported states that are to take the state's place

	mu     sync.Mutex
	list   []portable.Metadata  // what is offered, the oldest first
	used   map[uint64]time.Time // by height: when a peer was told of it, or took a chunk
	making uint64               // the height of what is due or being made; 0: none

	taking sync.Mutex // held for the next
	in     *incoming  // nil: nothing was offered
}

// newStateSync returns the state sync of a node.
func New(o Options) *Sync {
	return &Sync{Options: o, due: make(chan *storage.Pinned, 1), ripe: make(chan pendingInstall),
		used: make(map[uint64]time.Time)}
}

func (s *Sync) dir() portable.Dir {
	return portable.Dir{FS: s.Disk, Path: home.StateSyncDir(s.Home)}
}

func (s *Sync) store() (storage.Client, error) {
	c := s.Directory()
	if c == nil {
		return storage.Client{}, fmt.Errorf("storage: %w", engines.ErrDown)
	}
	return storage.NewClient(c), nil
}

// Committed pins the state at the heights that are due: see consensus.StateSync. The block that
// comes next waits for this call, so what is pinned is the height's.
func (s *Sync) Committed(ctx context.Context, at chain.State) {
	every := uint64(s.Config.EveryHeights)
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
		s.Diagnostics.Debug("no snapshot for peers", zap.Uint64("height", at.Height), zap.Error(err))
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
		s.Diagnostics.Warn("no snapshot for peers: the one before is still being made",
			zap.Uint64("height", at.Height))
	}
}

// Oldest is the lowest height of a snapshot: see consensus.StateSync.
func (s *Sync) Oldest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) > 0 {
		return s.list[0].Height
	}
	return s.making
}

// List answers what is offered: see consensus.StateSync.
func (s *Sync) List() []consensus.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()

	out := make([]consensus.Snapshot, len(s.list))

	for i, m := range s.list {
		s.used[m.Height] = s.Now()
		out[len(out)-1-i] = consensus.Snapshot{
			Height: m.Height, Format: portable.Format, Chunks: uint32(len(m.Chunks)), Hash: m.Hash(),
			Metadata: m.Encode(),
		}
	}

	return out
}

// Chunk reads a chunk: see consensus.StateSync. A snapshot that turns out not to be what was
// written is not offered any more.
func (s *Sync) Chunk(height uint64, format, index uint32) ([]byte, error) {
	s.mu.Lock()
	at := slices.IndexFunc(s.list, func(m portable.Metadata) bool { return m.Height == height })
	var m portable.Metadata

	if at >= 0 {
		m = s.list[at]
		s.used[height] = s.Now()
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

func (s *Sync) inUse(m portable.Metadata) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.used[m.Height]
	return ok && s.Now().Sub(at) < useTime
}

func (s *Sync) withdraw(bad portable.Metadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(m portable.Metadata) bool { return bytes.Equal(m.Hash(), bad.Hash()) })
}

// start is the engine's StartFunc.
func (s *Sync) Start(context.Context) (supervisor.Service, error) {
	return service{s}, nil
}

// stateSyncService is one incarnation of the engine.
type service struct{ *Sync }

// String names the service in reports.
func (service) String() string { return "state sync" }

// Serve makes snapshots and installs imported states until ctx ends.
func (s service) Serve(ctx context.Context) error {
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
func (s *Sync) exchanged(ctx context.Context, r pendingInstall) {
	err := errors.New("the installation was cut short")
	defer func() { r.done <- err }()
	err = s.install(ctx, r)
}

// settle ends what an incarnation before, or a process, was in the middle of.
func (s *Sync) settle(ctx context.Context) error {
	if err := s.settleDir(); err != nil {
		return err
	}
	in, err := install.ReadMarker(s.Disk, s.Home)
	if err != nil {
		return err
	}
	if in.SnapshotID != "" {
		return s.recycleCore(ctx)
	}

	// the installation may have been cut between stop and start
	return supervisor.Revive(ctx, s.Supervised(), plan.Transactions)
}

func (s *Sync) settleDir() error {
	if err := s.dir().Settle(); err != nil {
		return err
	}

	if s.taking.TryLock() { // else one is being taken, and waits for us
		var err error
		if s.in == nil {
			err = s.Disk.RemoveAll(s.importPath())
		}
		s.taking.Unlock()
		if err != nil {
			return err
		}
	}

	keep := s.Config.Keep
	if s.Config.EveryHeights == 0 {
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
func (s *Sync) export(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-s.due:
			s.make(ctx, p)
		}
	}
}

func (s *Sync) make(ctx context.Context, p *storage.Pinned) {
	defer p.Close()

	began := time.Now()
	pace := retention.Pace{Share: retention.PaceShare}
	m, err := s.dir().Take(ctx, p, portable.Taking{Pace: pace.Wait})
	list, keepErr := s.dir().Keep(s.Config.Keep, s.inUse)
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
		s.Diagnostics.Warn("snapshot for peers failed", zap.Uint64("height", p.Height()), zap.Error(err))
	default:
		s.Diagnostics.Info("snapshot for peers", zap.Uint64("height", m.Height), zap.Uint64("keys", m.Keys),
			zap.Uint64("bytes", m.Bytes),
			zap.Int("chunks", len(m.Chunks)), zap.Duration("took", time.Since(began)))
	}
}
