package offline

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/backend/kvstore"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/engines/worker"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/backends"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/install"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// VerifyOptions set how thorough Verify is, and what it works with.
type VerifyOptions struct {
	// Backends are the backends that the home's node was run with, beyond the shipped ones.
	Backends []chain.Backend

	// SkipReplay leaves out the execution of the blocks. Executing them again takes as long as it
	// took the first time.
	SkipReplay bool

	// SkipConsensus leaves out the files of the kind of consensus, such as CometBFT's databases. It
	// is for a copy of a home without them.
	SkipConsensus bool

	// Fatal ends the process when the scratch state can neither be used nor closed, for example
	// because its disk is full. It must not return; nil panics.
	Fatal func(error)

	// Progress, if set, is called with the step that Verify is at, and how far it has come.
	Progress func(step string, done, total uint64)

	Disk vfs.FS      // nil: the operating system's
	Logs eventlog.FS // of the log, on the same disk; nil: the operating system's

	restored bool // the home was just restored: what a backup does not have may be missing
}

// Verified describes what Verify has checked.
type Verified struct {
	Log        eventlog.Report
	ChainID    string
	Height     uint64 // the last committed one in the log
	AppHash    []byte // at that height
	State      uint64 // the height that the state has applied; a restart applies the rest
	Blocks     uint64 // executed again
	Txs        uint64 // in these blocks
	Resets     uint64 // of the chain, with a start of the next epoch
	Launched   uint64 // acknowledged transactions
	Unfinished uint64 // acknowledged transactions without a result: the next start continues with them

	Snapshots  int    // of the home, each read whole
	First      uint64 // the first record of the log
	Base       string // the snapshot that replay began with; empty: the genesis
	BaseHeight uint64 // the height of Base

	// How long each step took.
	LogTook, StateTook, ReplayTook time.Duration
}

// Verify checks a stopped home and changes nothing in it. It reads whatever a start, a backup and a
// restore read: the files of the home, every byte of the log, of the state, of the snapshots and of
// the databases of the consensus. It executes the logged blocks again, and compares the results and
// app hashes with those in the log and in the state. Errors are exit.ErrDamage (which names what is
// damaged, and where), exit.ErrHomeInUse and exit.ErrConfig.
func Verify(ctx context.Context, dir string, o VerifyOptions) (Verified, error) {
	return verify(ctx, dir, o, nil)
}

// verify is Verify. beside, if set, executes the blocks, too, with a service of its own.
func verify(ctx context.Context, dir string, o VerifyOptions, beside *besides) (Verified, error) {
	var v Verified
	if err := home.CheckFormat(dir); err != nil {
		return v, err
	}
	if o.Progress == nil {
		o.Progress = func(string, uint64, uint64) {}
	}
	lock, err := home.LockToRead(dir)
	if err != nil {
		return v, err
	}
	defer lock.Close()

	if err := checkFiles(dir, o.restored); err != nil {
		return v, err
	}
	if o.Disk == nil {
		o.Disk = vfs.Default
	}

	r := &verification{VerifyOptions: o, home: dir, backends: make(map[string]chain.Backend),
		traits: home.TraitsOf(dir), report: &v, pending: newPending(), beside: beside}

	for _, b := range append([]chain.Backend{kv.New(), kvstore.New()}, o.Backends...) {
		r.backends[b.Name()] = b
	}

	if err := home.AddBackends(dir, r.backends, consensus.Kinds()...); err != nil {
		return v, err
	}
	if err := home.BindBackends(dir, r.backends); err != nil {
		return v, err
	}
	if beside != nil {
		if err := beside.bind(r.backends); err != nil {
			return v, err
		}
	}

	return v, exit.Classify(r.run(ctx))
}

// verification is one call of Verify.
type verification struct {
	VerifyOptions
	home     string // its directory
	backends map[string]chain.Backend
	traits   consensus.Traits // of the home's kind of consensus
	report   *Verified
	beside   *besides // nil: none

	pending    pending
	decided    *logv1.OrderDecided
	reset      *logv1.ChainReset // without a start of the next epoch
	state      *storage.DB       // the home's; nil: it has none
	replayed   *storage.DB       // built again from the log
	startIndex uint64            // of the snapshot that replayed began with; 0: none
	scratch    string
}

// run checks the home.
func (r *verification) run(ctx context.Context) error {
	defer r.closeState()
	if begun, err := r.read(ctx); err != nil || !begun {
		return err
	}

	began := time.Now()
	defer func() { r.report.ReplayTook = time.Since(began) }()

	return r.replay(ctx)
}

// closeState closes the home's state, if it is open.
func (r *verification) closeState() {
	if r.state != nil {
		r.state.Close() // it is open for reading only
	}
}

// read reads the log, the state and the snapshots, and leaves the state open. begun is false if no
// node was ever started in the home.
func (r *verification) read(ctx context.Context) (begun bool, err error) {
	if err := home.StateWithoutLog(r.Disk, r.home); err != nil {
		return false, err
	}

	if begun, err = home.HasFile(r.Disk, home.LogDir(r.home), func(name string) bool {
		return strings.HasSuffix(name, ".seg")
	}); err != nil || !begun {
		return false, err
	}

	for _, path := range []string{install.MarkerPath(r.home), home.StateDir(r.home) + ".new"} {
		if _, err := r.Disk.Stat(path); err == nil {
			return true, fmt.Errorf("%w: an installation of a snapshot was interrupted (%s): complete it first with a "+
				"start, or with any 'coppice snapshot' command", exit.ErrConfig, path)
		}
	}

	began := time.Now()
	r.Progress("log", 0, 0)

	if r.report.Log, err = eventlog.Verify(home.LogDir(r.home),
		eventlog.Options{FS: r.Logs, Events: func(e eventlog.Event) {
			if p, ok := e.(eventlog.Progress); ok {
				r.Progress("log", uint64(p.Done), uint64(p.Total))
			}
		}}); err != nil {
		return true, err
	}

	r.report.LogTook = time.Since(began)
	if err := r.checkBackends(ctx); err != nil {
		return true, err
	}

	began = time.Now()
	if err := r.scan(ctx); err != nil {
		return true, err
	}
	if err := r.readSnapshots(ctx); err != nil {
		return true, err
	}
	r.report.StateTook = time.Since(began)

	return true, nil
}

// checkBackends returns an error if replay would lack a backend. What a home needs is read in any
// case, because a start reads it.
func (r *verification) checkBackends(ctx context.Context) error {
	needs, err := backends.Needed(ctx, r.home, r.Logs, func(done, total uint64) {
		r.Progress("backends", done, total)
	})
	if err != nil || r.SkipReplay {
		return err // without replay nothing is executed
	}
	if err := needs.Check(r.home, r.backends); err != nil {
		return fmt.Errorf("%w, or verify with --skip-replay, which executes nothing", err)
	}

	return nil
}

// scan opens the home's state, if it has one, and checks that its contents give its app hash.
func (r *verification) scan(ctx context.Context) error {
	if _, err := r.Disk.Stat(home.StateDir(r.home)); err != nil {
		return nil
	}
	state, err := storage.Open(home.StateDir(r.home), storage.Options{FS: r.Disk, ReadOnly: true})
	if errors.Is(err, storage.ErrNone) {
		return nil // a start makes the state from the log
	}
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}

	r.state = state
	return state.VerifyScan(ctx, func(done, total uint64) { r.Progress("state", done, total) })
}

// readSnapshots reads every byte of the home's snapshots. The node can do without one, but its
// operator counts on it.
func (r *verification) readSnapshots(ctx context.Context) error {
	list, err := r.snapshots().List()
	if err != nil {
		return err
	}

	for _, e := range list {
		err := e.Err
		if err == nil {
			_, err = r.snapshots().Verify(ctx, e.ID, func(done, total uint64) { r.Progress("snapshots", done, total) })
		}
		if err != nil && !errors.Is(err, snapshots.ErrDamaged) {
			return fmt.Errorf("snapshot %s: %w", e.ID, err)
		}
		if err != nil {
			return fmt.Errorf("snapshot %s: %w; the home can do without it, unless its log begins after record 1: "+
				"remove %s and verify again", e.ID, err, r.Disk.PathJoin(r.snapshots().Path, e.ID))
		}
	}

	r.report.Snapshots = len(list)
	return nil
}

// replay builds the state again from the log. It compares the outcome of every block with the
// logged one, and at the end the app hash of the home's state with that of the replayed one.
func (r *verification) replay(ctx context.Context) error {
	// QuickOpen, because every frame was checked already.
	log, err := eventlog.OpenReadOnly(home.LogDir(r.home), eventlog.Options{FS: r.Logs, QuickOpen: true})
	if err != nil {
		return err
	}
	defer log.Close()

	r.report.First = log.First()
	started, err := chain.FirstStart(log.Cursor, log.First(), log.Durable())
	if err != nil {
		return exit.Classify(err)
	}
	chain.BindStart(started, r.backends)
	if err := r.checkAgreement(log); err != nil {
		return err
	}
	defer r.removeScratch()
	if err := r.beginReplay(ctx, log); err != nil {
		return err
	}

	total := log.Durable() - log.First() + 1

	for e, err := range chain.Records(log.Cursor, log.First(), chain.End) {
		if err := cmp.Or(err, context.Cause(ctx)); err != nil {
			return err
		}

		m, err := chain.DecodeRecord(e)
		if err != nil {
			return fmt.Errorf("%w: %w", exit.ErrDamage, err)
		}
		if err := r.record(ctx, log, e.Index, m); err != nil {
			return fmt.Errorf("record %d: %w", e.Index, err)
		}
		if e.Index%1024 == 0 || e.Index == log.Durable() {
			r.Progress("replay", e.Index-log.First()+1, total)
		}
	}

	r.report.Unfinished = uint64(len(r.pending))
	if err := r.compareEnd(); err != nil || r.SkipConsensus {
		return err
	}

	return checkConsensus(ctx, r.home, r.leadsTo())
}

// leadsTo returns the state of the chain at the end of the log.
func (r *verification) leadsTo() chain.State {
	if r.reset != nil {
		return chain.AfterReset(r.reset)
	}
	return r.replayed.State()
}

// record replays the next record of the log.
func (r *verification) record(ctx context.Context, log *eventlog.Log, index uint64, m proto.Message) error {
	r.pending.record(index, m)
	if _, launched := m.(*logv1.TxLaunched); launched {
		r.report.Launched++
	}
	if err := r.sameGenesis(m); err != nil {
		return err
	}
	if index <= r.startIndex {
		return nil // the state that replay began with contains the record
	}

	switch m := m.(type) {
	case *logv1.ChainStarted:
		return r.started(index, m)

	case *logv1.ChainReset:
		return r.ended(m)

	case *logv1.SnapshotInstalled:
		return r.installed(ctx, log, index, m)

	case *logv1.OrderDecided:
		if r.reset != nil {
			return fmt.Errorf("%w: %v was decided after the end of the chain at height %d", exit.ErrDamage,
				chain.BlockFromRecord(m), r.reset.LastHeight)
		}
		if d := r.decided; d != nil && !chain.BlockFromRecord(d).Same(chain.BlockFromRecord(m)) {
			return fmt.Errorf("%w: %v was decided, but %v before it was never committed", exit.ErrDamage,
				chain.BlockFromRecord(m), chain.BlockFromRecord(d))
		}
		r.decided = m

	case *logv1.BlockCommitted:
		return r.block(ctx, index, m)
	}

	return nil
}

// started begins a chain, or the epoch that the last ChainReset names.
func (r *verification) started(index uint64, m *logv1.ChainStarted) error {
	if r.reset != nil {
		if err := chain.Succeeds(r.reset, m); err != nil {
			return err
		}
		r.report.Resets++
	}

	r.reset, r.report.ChainID = nil, m.ChainId
	err := r.replayed.StartChain(index, m)
	r.report.AppHash = r.replayed.State().AppHash

	return err
}

// ended checks that the chain ended as the replayed state says.
func (r *verification) ended(m *logv1.ChainReset) error {
	s := r.replayed.State()
	if err := s.CheckChainReset(r.replayed.RootAt(s.Period+1), m); err != nil {
		return fmt.Errorf("%w: %w", exit.ErrDamage, err)
	}
	if r.reset != nil {
		return fmt.Errorf("%w: chain %s has ended before, at height %d", exit.ErrDamage, m.OldChainId,
			r.reset.LastHeight)
	}

	r.reset = m
	return nil
}

// block executes a committed block again, and compares the outcome with the logged one. With
// SkipReplay it applies the logged changes instead.
func (r *verification) block(ctx context.Context, index uint64, m *logv1.BlockCommitted) error {
	if r.decided == nil {
		return fmt.Errorf("%w: block %d was committed but never decided", exit.ErrDamage, m.Height)
	}

	b := chain.BlockFromRecord(r.decided)
	r.decided = nil

	if b.Height != m.Height || b.ChainID != m.ChainId || !bytes.Equal(b.Hash, m.BlockHash) {
		return fmt.Errorf("%w: block %d of %s (%.8x) was committed, but %v had been decided", exit.ErrDamage,
			m.Height, m.ChainId, m.BlockHash, b)
	}

	r.report.Blocks++
	r.report.Txs += uint64(len(b.Txs))
	r.report.Height, r.report.AppHash = m.Height, m.AppHash
	if r.SkipReplay {
		return r.redo(index, b, m)
	}
	staged, err := r.execute(ctx, b)
	if err != nil {
		return err
	}
	if err := sameOutcome(staged, m); err != nil {
		return err
	}

	return r.replayed.Commit(index, m)
}

// redo applies the logged changes of a block.
func (r *verification) redo(index uint64, b chain.Block, m *logv1.BlockCommitted) error {
	if r.beside == nil {
		return r.replayed.Redo(index, m)
	}

	if err := r.beside.execute(r.replayed, b, r.traits.Conduct); err != nil {
		return err
	}
	if err := r.replayed.Redo(index, m); err != nil {
		return err
	}
	return r.beside.compare(r.replayed, b)
}

// execute executes a block on the replayed state, one transaction after the other.
func (r *verification) execute(ctx context.Context, b chain.Block) (chain.Staged, error) {
	refused, err := r.replayed.Begin(b)
	if err != nil {
		return chain.Staged{}, err
	}

	for i, raw := range b.Txs {
		if refused[i] != nil {
			continue
		}
		tx, err := chain.DecodeTx(raw)
		if err != nil {
			return chain.Staged{}, err
		}

		w := worker.Worker{Store: direct{r.replayed}, Job: chain.Job{
			ID: chain.HashTx(raw), Tx: tx, Backend: r.backends[tx.Backend], Params: r.replayed.State().Params,
			Place: make(chan chain.Placement, 1), Late: true,
		}}
		w.Place <- chain.Placement{Version: chain.Version{Period: b.Period, Height: b.Height, Index: uint32(i)},
			Time: b.Time}

		if err := w.Serve(ctx); err != nil {
			return chain.Staged{}, err
		}
	}

	var failures []*logv1.HookFailure
	if !r.replayed.State().InHold() { // a held block changes nothing
		failures, err = worker.Hooks{Backends: chain.BlockBackends(r.backends), Store: direct{r.replayed},
			Conduct: r.traits.Conduct}.EndBlock(ctx, b)
		if err != nil {
			return chain.Staged{}, err
		}
	}

	staged, err := r.replayed.Seal()
	staged.HookFailures = failures

	return staged, err
}

// direct gives one worker at a time access to a state. It stands in for the storage engine of a
// node.
type direct struct{ db *storage.DB }

// Read implements worker.Store.
func (d direct) Read(_ context.Context, v chain.Version, key []byte) ([]byte, bool, error) {
	return d.db.Read(v, key)
}

// Finish implements worker.Store.
func (d direct) Finish(_ context.Context, v chain.Version, changes []*logv1.Change, result *logv1.TxResult) error {
	return d.db.Finish(v, changes, result)
}

// EndBlock implements worker.HookStore.
func (d direct) EndBlock(_ context.Context, v chain.Version, changes []*logv1.Change) error {
	return d.db.EndBlock(v, changes)
}

func sameEvent(a, b *logv1.Emitted) bool { return proto.Equal(a, b) }

// sameOutcome returns an error if the outcome of an execution differs from the logged one.
func sameOutcome(s chain.Staged, m *logv1.BlockCommitted) error {
	if len(s.Results) != len(m.Results) {
		return fmt.Errorf("%w: block %d has %d results, executing it again gives %d", exit.ErrDamage, m.Height,
			len(m.Results), len(s.Results))
	}

	for i, was := range m.Results {
		got := s.Results[i]
		if got.Code != was.Code || !bytes.Equal(got.Data, was.Data) || !bytes.Equal(got.Id, was.Id) {
			return fmt.Errorf("%w: block %d, transaction %d (%x): the log has %v %x, executing it again gives %v %x",
				exit.ErrDamage, m.Height, i, was.Id, was.Code, was.Data, got.Code, got.Data)
		}
	}

	for i, was := range m.Results {
		if got := s.Results[i]; !slices.EqualFunc(got.Events, was.Events, sameEvent) {
			return fmt.Errorf("%w: block %d, transaction %d (%x): the log has the events %v, executing it again gives "+
				"%v", exit.ErrDamage, m.Height, i, was.Id, was.Events, got.Events)
		}
	}

	if !slices.EqualFunc(s.HookFailures, m.HookFailures, func(a, b *logv1.HookFailure) bool {
		return a.Backend == b.Backend && a.Code == b.Code
	}) {
		return fmt.Errorf("%w: block %d: the log has the failures of hooks %v, executing it again gives %v",
			exit.ErrDamage, m.Height, m.HookFailures, s.HookFailures)
	}

	if len(s.Changes) != len(m.Changes) {
		return fmt.Errorf("%w: block %d has %d changes, executing it again gives %d", exit.ErrDamage, m.Height,
			len(m.Changes), len(s.Changes))
	}

	for i, was := range m.Changes {
		if !proto.Equal(s.Changes[i], was) {
			return fmt.Errorf("%w: block %d, change %d: the log has a change of key %q, executing it again gives "+
				"another change of %q", exit.ErrDamage, m.Height, i, was.Key, s.Changes[i].Key)
		}
	}

	if !bytes.Equal(s.AppHash, m.AppHash) {
		return fmt.Errorf("%w: block %d: the log has app hash %x, executing it again gives %x",
			exit.ErrDamage, m.Height, m.AppHash, s.AppHash)
	}

	return nil
}

// compareEnd returns an error if the app hash of the home's state differs from the one that the
// replayed state had at the same height.
func (r *verification) compareEnd() error {
	if r.state == nil {
		return nil
	}

	s := r.state.State()
	r.report.State = s.Height
	if !s.Started() || s.Height == 0 {
		return nil
	}
	meta, err := r.replayed.BlockOf(s.Period, s.Height)
	switch {
	case errors.Is(err, storage.ErrPruned):
		return nil // the state is behind the snapshot that replay began with
	case errors.Is(err, storage.ErrNotCommitted):
		return fmt.Errorf("%w: the state is at height %d, to which the log does not lead: %w", exit.ErrDamage,
			s.Height, err)
	case err != nil:
		return err // of the replayed state, such as that of a full disk
	}

	if !bytes.Equal(meta.AppHash, s.AppHash) {
		return fmt.Errorf("%w: at height %d the state has app hash %x, the log leads to %x", exit.ErrDamage, s.Height,
			s.AppHash, meta.AppHash)
	}

	return nil
}
