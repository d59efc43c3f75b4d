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
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// ImportDir is the directory in which the state of a peer's snapshot is built. It is in the
// directory of the snapshots for peers.
const ImportDir = "import"

// useTime is how long a snapshot is kept after a peer was told of it, or took a chunk of it. A peer
// looks for snapshots for a while before it takes the newest.
const useTime = time.Minute

// Options are what a Sync needs from a node.
type Options struct {
	Home        string
	Disk        vfs.FS
	Config      config.StateSyncConfig
	Version     string // of the program
	Diagnostics *zap.Logger
	Now         func() time.Time

	// Directory resolves the engines of the current run of the node; it is nil before the first.
	Directory func() engines.Directory

	// Supervised returns the supervisor coppice/node of the current run.
	Supervised func() *supervisor.Supervisor

	Genesis *logv1.ChainStarted // of the home

	Snapshots *retention.Snapshotter
	Installs  *install.Mutex

	// Die ends the process. It is called when an operation that holds the files of the state has
	// failed for good.
	Die func(error)
}

// Sync implements consensus.StateSync. It makes snapshots at heights that all nodes share, serves
// them to peers, and takes a snapshot from a peer. Long work runs in its service, which is an
// engine. The state of Sync outlives the incarnations of that service.
type Sync struct {
	Options
	Tally    retention.Tally
	due      chan due   // states of which snapshots are due; at most one waits
	adopts   chan adopt // snapshots of another process
	installs chan pendingInstall
	copied   chan struct{} // gets a value when there is a copy of the state at a reset

	mu        sync.Mutex
	list      []portable.Metadata  // the snapshots that are offered, the oldest first
	used      map[uint64]time.Time // by height: when a peer was last told of the snapshot, or took a chunk
	atResets  []portable.Metadata  // the states at resets that are offered, the oldest first
	resetUsed map[string]time.Time // by hash: when a peer was last told of the state, or took a chunk
	making    uint64               // at most the lowest height whose snapshot is due or being made; 0: none

	preserving sync.Mutex // held to change the copies of states at resets

	taking sync.Mutex // protects in
	in     *incoming  // nil: nothing was offered
}

// New returns a Sync whose service has not started.
func New(o Options) *Sync {
	return &Sync{Options: o, due: make(chan due, 1), adopts: make(chan adopt), installs: make(chan pendingInstall),
		used: make(map[uint64]time.Time), resetUsed: make(map[string]time.Time), copied: make(chan struct{}, 1)}
}

// dir returns the directory of the snapshots for peers.
func (s *Sync) dir() portable.Dir {
	return portable.Dir{FS: s.Disk, Path: home.StateSyncDir(s.Home)}
}

// store returns a client of storage. It returns engines.ErrDown before the first run of the node.
func (s *Sync) store() (storage.Client, error) {
	c := s.Directory()
	if c == nil {
		return storage.Client{}, fmt.Errorf("storage: %w", engines.ErrDown)
	}

	return storage.NewClient(c), nil
}

// Committed pins the state if a snapshot of this height is due: see consensus.StateSync. The next
// block waits until Committed returns, so the pinned state is the state at this height.
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
	case err != nil: // storage is going down; other nodes make a snapshot of this height
		s.Diagnostics.Debug("no snapshot for peers", zap.Uint64("height", at.Height), zap.Error(err))
		return
	case p.Height() != at.Height:
		p.Close()
		return
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	select {
	case s.due <- due{Pinned: p}:
		if s.making == 0 {
			s.making = at.Height
		}
	default:
		p.Close()
		s.Diagnostics.Warn("no snapshot for peers: the previous one is still being made",
			zap.Uint64("height", at.Height))
	}
}

// Oldest returns the lowest height of a snapshot that is offered or being made: see
// consensus.StateSync.
func (s *Sync) Oldest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()

	if len(s.list) > 0 {
		return s.list[0].Height
	}

	return s.making
}

// List returns the snapshots that are offered, the newest first: see consensus.StateSync.
func (s *Sync) List() []consensus.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()

	out := make([]consensus.Snapshot, len(s.list))

	for i, m := range s.list {
		s.used[m.Height] = s.Now()
		out[len(out)-1-i] = snapshotOf(m)
	}

	return out
}

// snapshotOf describes a snapshot to peers.
func snapshotOf(m portable.Metadata) consensus.Snapshot {
	return consensus.Snapshot{Height: m.Height, Format: portable.Format, Chunks: uint32(len(m.Chunks)),
		Hash: m.Hash(), Metadata: m.Encode()}
}

// Chunk returns a chunk of a snapshot: see consensus.StateSync. If the chunk on disk is not as it
// was written, Chunk withdraws the snapshot.
func (s *Sync) Chunk(height uint64, format, index uint32) ([]byte, error) {
	var m portable.Metadata

	s.mu.Lock()
	at := slices.IndexFunc(s.list, func(m portable.Metadata) bool { return m.Height == height })
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

// inUse reports whether a peer may be about to take a chunk of m.
func (s *Sync) inUse(m portable.Metadata) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	at, ok := s.used[m.Height]
	return ok && s.Now().Sub(at) < useTime
}

// withdraw stops offering a snapshot.
func (s *Sync) withdraw(bad portable.Metadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(m portable.Metadata) bool { return bytes.Equal(m.Hash(), bad.Hash()) })
}

// Start is the StartFunc of the engine that does the long work of s.
func (s *Sync) Start(context.Context) (supervisor.Service, error) {
	return service{s}, nil
}

// service is one incarnation of the engine that does the long work of Sync.
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
		case p := <-s.installs:
			s.exchanged(ctx, p)
		}
	}
}

// exchanged installs an imported state, and sends the result to p.done. It sends a result even if
// install panics.
func (s *Sync) exchanged(ctx context.Context, p pendingInstall) {
	err := errors.New("the installation was cut short")
	defer func() { p.done <- err }()
	err = s.install(ctx, p)
}

// settle completes or undoes the work that a previous incarnation or process did not finish.
func (s *Sync) settle(ctx context.Context) error {
	if err := s.settleDir(); err != nil {
		return err
	}
	if err := s.settleResets(); err != nil {
		return err
	}

	in, err := install.ReadMarker(s.Disk, s.Home)
	if err != nil {
		return err
	}
	if in.SnapshotID != "" {
		return s.recycleCore(ctx)
	}

	// The previous incarnation may have stopped the transaction core without starting it again.
	return supervisor.Revive(ctx, s.Supervised(), plan.Transactions)
}

// settleDir removes unfinished snapshots, and offers the complete snapshots of the directory.
func (s *Sync) settleDir() error {
	if err := s.dir().Settle(); err != nil {
		return err
	}

	if s.taking.TryLock() { // if it fails, a snapshot is being taken and waits for this service
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

	list, err := s.dir().Keep(keep, nil) // a peer that used one has lost its connection
	if err != nil {
		return err
	}

	s.count(list)

	s.mu.Lock()
	defer s.mu.Unlock()

	s.list = list
	if len(s.due) == 0 {
		s.making = 0
	}

	return nil
}

// count notes the snapshots on disk for the metrics.
func (s *Sync) count(list []portable.Metadata) {
	n := len(list)
	if n == 0 {
		s.Tally.Keeps(0, 0, time.Time{})
		return
	}
	s.Tally.Keeps(n, int64(list[n-1].Bytes), s.dir().Made(list[n-1]))
}

// export makes the snapshots that are due, until ctx ends. If one fails, the next is made at the
// next height that is due.
func (s *Sync) export(ctx context.Context) error {
	s.exportResets(ctx) // of copies that an earlier incarnation has left

	for {
		select {
		case <-ctx.Done():
			return nil
		case d := <-s.due:
			m, err := s.make(ctx, d.Pinned)
			if d.done != nil {
				d.done <- made{m, err}
			}
		case <-s.copied:
			s.exportResets(ctx)
		case a := <-s.adopts:
			m, err := s.take(a.staged)
			a.done <- made{m, err}
		}
	}
}

// make makes a snapshot of a pinned state, and then removes the oldest snapshots if there are more
// than the configuration keeps.
func (s *Sync) make(ctx context.Context, p *storage.Pinned) (portable.Metadata, error) {
	defer p.Close()

	began := time.Now()
	pace := retention.Pace{Share: retention.PaceShare}
	m, err := s.dir().Take(ctx, p, portable.Taking{Pace: pace.Wait})
	list, keepErr := s.dir().Keep(s.Config.Keep, s.inUse)

	if keepErr == nil {
		s.count(list)
	}

	s.mu.Lock()

	if keepErr == nil {
		s.list = list
	}

	maps.DeleteFunc(s.used, func(h uint64, _ time.Time) bool {
		return !slices.ContainsFunc(s.list, func(m portable.Metadata) bool { return m.Height == h })
	})

	if s.making = 0; len(s.due) > 0 {
		s.making = p.Height() + 1 // the one that is due is no lower, so this does for Oldest
	}

	s.mu.Unlock()

	err = errors.Join(err, keepErr)

	switch {
	case ctx.Err() != nil, errors.Is(err, storage.ErrClosed):
	case err != nil:
		s.Tally.Failed()
		s.Diagnostics.Warn("snapshot for peers failed", zap.Uint64("height", p.Height()), zap.Error(err))
	default:
		s.Tally.Took()
		s.Diagnostics.Info("snapshot for peers", zap.Uint64("height", m.Height), zap.Uint64("keys", m.Keys),
			zap.Uint64("bytes", m.Bytes), zap.Int("chunks", len(m.Chunks)),
			zap.Duration("took", time.Since(began)))
	}

	return m, err
}
