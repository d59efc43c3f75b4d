package offline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/retention"
)

// PruneOptions say what Prune removes.
type PruneOptions struct {
	// KeepHeights is the number of newest heights that stay; Before is the lowest height that
	// stays. At most one of them is set. It takes the place of retention.versions and of
	// consensus.retain_blocks. If none is set, the configuration says how much stays.
	KeepHeights, Before uint64

	// Forget names followers of the log that do not come back, so that nothing is kept for them.
	Forget []string

	DryRun   bool // nothing is changed
	Progress func(step string, done, total uint64)

	// Fatal ends the process when the state can neither be used nor closed, for example because its
	// disk is full. It must not return; nil panics.
	Fatal func(error)

	Disk vfs.FS      // nil: the operating system's
	Logs eventlog.FS // of the log, on the same disk; nil: the operating system's
}

// Pruned describes what Prune has removed, or would remove.
type Pruned struct {
	ChainID string
	Height  uint64 // of the state

	State     Part // heights that can be read
	Snapshots Part // heights of snapshots
	Log       Part // records; they are removed by whole segments, so more may stay than is held
	Blocks    Part // heights of the blocks that the consensus keeps; the zero Part if it keeps none

	// Evidence is the lowest height below Blocks.Kept whose header stays, for evidence; 0: there is
	// none.
	Evidence uint64
}

// Part describes one part of a home: what it had from First to Last, and has from Kept to Last.
type Part struct {
	First, Kept, Last uint64
	Holds             []consensus.Hold // why nothing from Kept on is removed, the strictest first
	Sizes             []consensus.Size
}

// settle sorts the holds and sets what stays: from the lowest hold on, but not less than first and
// not more than last.
func (p *Part) settle() {
	slices.SortStableFunc(p.Holds, func(a, b consensus.Hold) int { return cmp.Compare(a.First, b.First) })
	p.Kept = p.Last
	if len(p.Holds) > 0 {
		p.Kept = min(p.Kept, p.Holds[0].First)
	}
	p.Kept = max(p.Kept, p.First)
}

// hold adds a reason to keep everything from first on.
func (p *Part) hold(first uint64, format string, args ...any) {
	p.Holds = append(p.Holds, consensus.Hold{Name: fmt.Sprintf(format, args...), First: first})
}

// Prune removes from a stopped home, at once, what a running node would remove in the end: old
// versions of the state, snapshots beyond those that are kept, records of the log that neither
// recovery nor a follower needs, and old blocks of the consensus. It checks the home first, and
// changes nothing of a damaged one. It may be interrupted at any instant: the home is whole, and
// the next call completes the work. Errors are exit.ErrDamage, exit.ErrConfig and
// exit.ErrHomeInUse.
func Prune(ctx context.Context, dir string, o PruneOptions) (Pruned, error) {
	if o.Progress == nil {
		o.Progress = func(string, uint64, uint64) {}
	}

	h, err := openToMaintain(dir, o.Disk, o.Logs, o.DryRun)
	if err != nil {
		return Pruned{}, err
	}
	defer h.Close()
	h.fatal = o.Fatal

	p := &pruning{StoppedHome: h, o: o}
	err = p.run(ctx)
	return p.report, exit.Classify(err)
}

// openToMaintain opens a home to make it smaller, or only to say by how much.
func openToMaintain(dir string, disk vfs.FS, logs eventlog.FS, readOnly bool) (*StoppedHome, error) {
	if !readOnly {
		return Open(dir, disk, logs)
	}
	if err := home.CheckFormat(dir); err != nil {
		return nil, err
	}
	lock, err := home.LockToRead(dir)
	if err != nil {
		return nil, err
	}
	if disk == nil {
		disk = vfs.Default
	}

	return &StoppedHome{home: dir, disk: disk, logs: logs, unlock: lock.Close}, nil
}

// pruning is one call of Prune.
type pruning struct {
	*StoppedHome
	o      PruneOptions
	config config.Config
	logged chain.State // the state to which the log leads
	report Pruned

	followers retention.Followers // that may come back
}

// run checks the home, and then prunes one part of it after the other. The log comes after the
// snapshots, because the oldest one that stays holds it. What only removes files comes first: on a
// full disk it makes room for what has to write some.
func (p *pruning) run(ctx context.Context) (err error) {
	if p.logged, err = p.checkWhole(ctx, p.o.Progress); err != nil {
		return err
	}
	if p.config, err = config.Load(p.home); err != nil {
		return err
	}
	if err = p.readFollowers(); err != nil {
		return err
	}
	p.report.ChainID = p.logged.ChainID

	at, err := p.planState()
	if err != nil {
		return fmt.Errorf("pruning the state: %w", err)
	}

	floor, err := p.snapshots()
	if err != nil {
		return fmt.Errorf("pruning the snapshots: %w", err)
	}
	if err := p.log(ctx, at.DurableApplied, floor); err != nil {
		return fmt.Errorf("pruning the log: %w", err)
	}
	if err := p.state(ctx, at); err != nil {
		return fmt.Errorf("pruning the state: %w", err)
	}
	if err := p.blocks(ctx); err != nil {
		return fmt.Errorf("pruning the blocks: %w", err)
	}

	return nil
}

// asked adds the hold of the options to a part whose last height is given. It reports whether they
// have any.
func (p *pruning) asked(part *Part) bool {
	switch {
	case p.o.Before > 0:
		part.hold(p.o.Before, "the height that was asked for")
	case p.o.KeepHeights > 0:
		part.hold(p.report.Height-min(p.o.KeepHeights-1, p.report.Height), "the number of heights that was asked for")
	default:
		return false
	}
	return true
}

// planState finds out which versions stay, and returns the figures of the state; they are zero if
// there is none, and a start makes it from the log.
func (p *pruning) planState() (at storage.Stat, err error) {
	dir, part := home.StateDir(p.home), &p.report.State
	db, err := storage.Open(dir, storage.Options{FS: p.disk, ReadOnly: true})
	if errors.Is(err, storage.ErrNone) || notExist(err) {
		return at, p.outOfReach(0)
	}
	if err != nil {
		return at, err
	}

	s := db.State()
	at, err = db.Stat()
	if err = errors.Join(err, db.Close()); err != nil {
		return at, err
	}

	p.report.Height = s.Height
	if err := p.outOfReach(s.Height); err != nil {
		return at, err
	}
	if err := p.measure(part, "state", dir); err != nil || s.Height == 0 {
		return at, err
	}

	part.First, part.Last = max(s.InitialHeight, 1), s.Height
	if at.OldestPeriod == s.Period {
		part.First = max(part.First, at.OldestHeight)
	}
	if keep := uint64(p.config.Retention.Versions); !p.asked(part) && keep == 0 {
		part.hold(part.First, "retention.versions = 0: all heights")
	} else if len(part.Holds) == 0 {
		part.hold(s.Height-min(keep, s.Height), "retention.versions = %d", keep)
	}
	if err := p.holdVersions(part, s.Period); err != nil {
		return at, err
	}
	part.settle()

	return at, nil
}

// holdVersions holds the versions that streams need for values before changes.
func (p *pruning) holdVersions(part *Part, period uint64) error {
	oldest, held, err := streams.HeldVersions(home.StreamsDataDir(p.home))
	switch {
	case err != nil:
		return err
	case held && oldest.Period < period:
		part.hold(part.First, "streams that deliver values before changes")
	case held:
		part.hold(max(part.First, oldest.Height), "streams that deliver values before changes")
	}
	return nil
}

// state removes the versions that do not stay. A state that was pruned before may have been left
// half done, so it is pruned again.
func (p *pruning) state(ctx context.Context, at storage.Stat) error {
	dir, part := home.StateDir(p.home), &p.report.State
	if p.o.DryRun || part.Kept == part.First && at.OldestHeight == 0 {
		return nil
	}
	if err := p.pruneState(ctx, dir, part.Kept); err != nil {
		return err
	}
	return p.measureAfter(part, dir)
}

// outOfReach returns an error if a height was asked for that the state is not at yet.
func (p *pruning) outOfReach(height uint64) error {
	if p.o.Before <= height {
		return nil
	}
	return fmt.Errorf("%w: %w: the lowest height to keep is %d, but the state is at height %d", exit.ErrConfig,
		storage.ErrNotCommitted, p.o.Before, height)
}

// pruneState removes the versions below a height, and makes the tables anew without them.
func (p *pruning) pruneState(ctx context.Context, dir string, height uint64) error {
	db, err := storage.Open(dir, storage.Options{FS: p.disk, OnFatal: p.fatal})
	if err != nil {
		return err
	}

	p.o.Progress("versions", 0, 0)
	err = db.Prune(ctx, height)
	if err == nil {
		p.o.Progress("compact state", 0, 0)
		err = db.Compact(ctx)
	}

	return errors.Join(err, db.Close())
}

// blocks removes old blocks of the consensus.
func (p *pruning) blocks(ctx context.Context) error {
	k, _ := consensus.Lookup(p.config.Consensus.Kind)
	kind, ok := k.(consensus.Maintainer)
	if !ok {
		return nil
	}
	g, err := home.ReadGenesis(p.home)
	if err != nil {
		return err
	}

	part := &p.report.Blocks
	if keep := uint64(p.config.Consensus.RetainBlocks); !p.asked(part) && keep == 0 {
		part.hold(0, "consensus.retain_blocks = 0: all blocks")
	} else if len(part.Holds) == 0 {
		part.hold(p.logged.Height-min(keep, p.logged.Height), "consensus.retain_blocks = %d", keep)
	}
	oldest, err := p.oldestForPeers()
	if err != nil {
		return err
	}
	if oldest > 0 {
		part.hold(oldest, "the oldest snapshot for peers")
	}

	done, err := kind.Prune(ctx, p.config.ConsensusHome(p.home, g), consensus.PruneOptions{State: p.logged,
		Holds: part.Holds, DryRun: p.o.DryRun, Progress: p.o.Progress})
	*part = Part{First: done.First, Kept: done.Kept, Last: done.Last, Holds: done.Holds, Sizes: done.Sizes}
	p.report.Evidence = done.Evidence

	return err
}
