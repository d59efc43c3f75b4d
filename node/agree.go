package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/thejerf/suture/v4"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/node/exit"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// standing is what a state says of itself, as far as a log can be held against it.
type standing struct {
	chain.State
	log   [16]byte // what it was made of
	bound bool     // log is known
}

func standingOf(db *storage.DB) (standing, error) {
	id, bound, err := db.LogID()
	return standing{db.State(), id, bound}, err
}

// agree tells whether a state and a log belong together (I4), before one record is redone: the log
// is the one that the state was made of, it begins where it may begin, it goes on where the state
// ends, and its record at the state's applied index is the one that led to the state. A state that
// is behind is in order. Errors are ErrDamage and say what to do.
func agree(l *eventlog.Log, s standing) error {
	disagree := func(format string, args ...any) error {
		return fmt.Errorf("%w: state and log do not belong together: %w", exit.ErrDamage, fmt.Errorf(format, args...))
	}

	if s.bound && s.log != l.ID() {
		return disagree("%w: the state was made of log %x, and the log is %x", storage.ErrOtherLog, s.log, l.ID())
	}

	if s.Index > l.Durable() {
		return disagree("the state is ahead: it has applied record %d, and the log ends at %d; the log was cut back "+
			"or belongs to another home", s.Index, l.Durable())
	}

	base, err := baseOf(l)
	if err != nil {
		return err
	}

	switch {
	case s.Index == 0 && base != nil:
		return disagree("the log begins with the Base of a restored state at height %d, and the state is gone: "+
			"install it again with 'coppice snapshot restore'", base.Height)

	case s.Index == 0 && l.First() > 1:
		return disagree("there is no state, and the log begins at record %d: install a snapshot first, with 'coppice "+
			"snapshot restore'", l.First())

	case s.Index+1 < l.First():
		return disagree("there is a gap: the state has applied record %d, and the log begins at %d; install a "+
			"snapshot at or past record %d, with 'coppice snapshot restore'", s.Index, l.First(), l.First()-1)

	case s.Index >= l.First():
		return sameRecord(l, s, disagree)
	}

	return nil
}

// baseOf is the Base record that a restored log begins with; nil where the log begins otherwise.
func baseOf(l *eventlog.Log) (*logv1.Base, error) {
	if l.First() > l.Durable() {
		return nil, nil
	}
	e, err := l.Read(l.First())
	if err != nil || e.Kind != chain.KindBase {
		return nil, err
	}
	m, err := chain.DecodeRecord(e)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", exit.ErrDamage, err)
	}

	return m.(*logv1.Base), nil
}

// sameRecord holds the state against the record that it says it has applied last.
func sameRecord(l *eventlog.Log, s standing, disagree func(string, ...any) error) error {
	e, err := l.Read(s.Index)
	if err != nil {
		return err
	}
	m, err := chain.DecodeRecord(e)
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrDamage, err)
	}

	var is chain.State

	switch m := m.(type) {
	case *logv1.ChainStarted:
		is = chain.State{ChainID: m.ChainId, Period: m.Period, AppHash: m.AppHash}

	case *logv1.BlockCommitted:
		is = chain.State{ChainID: m.ChainId, Period: m.Period, Height: m.Height, AppHash: m.AppHash}

	case *logv1.SnapshotInstalled:
		is = chain.State{ChainID: m.ChainId, Period: m.Period, Height: m.Height, AppHash: m.AppHash}

	case *logv1.Base:
		is = chain.State{ChainID: m.ChainId, Period: m.Period, Height: m.Height, AppHash: m.AppHash}

	default:
		return disagree("record %d, which the state says led to it, is a %s", s.Index, chain.KindName(e.Kind))
	}

	if is.ChainID != s.ChainID || is.Period != s.Period {
		return disagree("the state is of chain %s (period %d), record %d of the log is of %s (period %d)", s.ChainID,
			s.Period, s.Index, is.ChainID, is.Period)
	}

	if is.Height != s.Height || len(is.AppHash) > 0 && !bytes.Equal(is.AppHash, s.AppHash) {
		return disagree("by record %d of the log (%s) the state is at height %d with app hash %x, and it is "+
			"at %d with %x",
			s.Index, chain.KindName(e.Kind), is.Height, is.AppHash, s.Height, s.AppHash)
	}

	return nil
}

// agree holds the state that a start found against the log, and binds the one to the other. What
// disagrees ends the process: no restart mends it.
func (n *Node) agree(ctx context.Context, c *core) error {
	log, store := logger.NewClient(c.dir), storage.NewClient(c.dir).SameGeneration()
	var s standing
	var err error
	if s.State, err = store.State(ctx); err != nil {
		return err
	}
	if s.log, s.bound, err = store.LogID(ctx); err != nil {
		return err
	}

	var id [16]byte
	if err := log.Use(ctx, func(l *eventlog.Log) error {
		id = l.ID()
		return agree(l, s)
	}); err != nil {
		if errors.Is(err, exit.ErrDamage) {
			err = fmt.Errorf("%w: %w", err, suture.ErrTerminateSupervisorTree)
		}
		return err
	}

	return store.BindLog(ctx, id)
}

// disk is where log, state and snapshots are.
func (n *Node) disk() vfs.FS {
	if n.stateDisk != nil {
		return n.stateDisk
	}
	return vfs.Default
}

// startedFile is made in a home once its log is there. It lies outside of data, which may be
// another file system.
const startedFile = "STARTED"

// markStarted notes that the home has a log.
func markStarted(home string, id [16]byte) error {
	path := filepath.Join(home, startedFile)
	err := durable.OS.WriteNew(path, fmt.Appendf(nil, "log %x\n", id), 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return errors.Join(err, durable.OS.SyncDir(home))
}

// StartedWithoutLog is ErrDamage for a home that had a log and has none: a chain that began anew
// there would not know what was acknowledged.
func StartedWithoutLog(home string) error {
	b, err := os.ReadFile(filepath.Join(home, startedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	return fmt.Errorf("%w: a node was started in %s (%s), and there is nothing in %s: is its file system mounted? To "+
		"begin a new chain make a new home",
		exit.ErrDamage, home, strings.TrimSpace(string(b)), LogDir(home))
}

// stateWithoutLog refuses a home in which there is a state, or was a log, and no log at all, before
// anybody makes a new log there. A log is durable before its state is begun, so no crash leaves
// that.
func stateWithoutLog(disk vfs.FS, home string) error {
	logs, err := listed(disk, LogDir(home), func(name string) bool { return strings.HasSuffix(name, ".seg") })
	if err != nil || logs {
		return err
	}
	tables, err := listed(disk, StateDir(home), func(name string) bool { return strings.HasPrefix(name, "MANIFEST-") })
	if err != nil {
		return err
	}
	if !tables {
		return StartedWithoutLog(home)
	}
	return fmt.Errorf("%w: there is a state in %s, and no log in %s that it could have been made of", exit.ErrDamage,
		StateDir(home), LogDir(home))
}

// listed tells whether a directory has a name that is wanted. One that is missing has none.
func listed(disk vfs.FS, dir string, wanted func(name string) bool) (bool, error) {
	names, err := disk.List(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}

	for _, name := range names {
		if wanted(name) {
			return true, nil
		}
	}

	return false, nil
}
