package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// PeerSource is the source of a snapshot that was made from a peer's state.
const PeerSource = "state sync"

// StateFrom returns the position of a state that is made from a snapshot. index is the snapshot's
// place in the log (see PlaceOf).
func StateFrom(m snapshots.Manifest, index uint64) chain.State {
	return chain.State{ChainID: m.ChainID, Period: m.Period, Height: m.Height, AppHash: m.AppHash, Index: index}
}

// Installs reports whether a record says that this snapshot was installed.
func Installs(r *logv1.SnapshotInstalled, m snapshots.Manifest) bool {
	return r.ChainId == m.ChainID && r.Period == m.Period && r.Height == m.Height &&
		bytes.Equal(r.AppHash, m.AppHash) && bytes.Equal(r.SnapshotHash, m.Hash())
}

// NewRecord returns the record which says that a snapshot has taken the place of the state.
func NewRecord(m snapshots.Manifest) (eventlog.Record, error) {
	return chain.NewRecord(&logv1.SnapshotInstalled{
		ChainId: m.ChainID, Period: m.Period, Height: m.Height, AppHash: m.AppHash, SnapshotHash: m.Hash(),
		Source: m.Source,
	})
}

// Mutex must be held by code that begins or settles an installation. Between the marker and the
// record of an installation, other code cannot know whether the installation will happen.
type Mutex struct {
	sync.Mutex

	// Verified is the id of the last snapshot that this process itself made in order to install it.
	// Its files need no check.
	Verified string
}

// OpenLogFunc opens the log that shows whether a snapshot was installed. l is nil if there is no
// log. If there is one, the caller calls done when it has read the log.
type OpenLogFunc func() (l *eventlog.Log, done func() error, err error)

// LogOnDisk opens the log of a home in which no node runs.
func LogOnDisk(logs eventlog.FS, dir string) OpenLogFunc {
	return func() (*eventlog.Log, func() error, error) {
		l, err := eventlog.OpenReadOnly(home.LogDir(dir), eventlog.Options{FS: logs})
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, nil
		}
		if err != nil {
			return nil, nil, err
		}
		return l, l.Close, nil
	}
}

// Settle ends an installation that a crash interrupted: it completes one whose record is in the
// log, and undoes any other. It also ends an interrupted exchange of the state's files. Call it
// before a state is opened, with the home locked. verified is the id of a snapshot that this
// process made itself, or empty.
func Settle(disk vfs.FS, homeDir string, log OpenLogFunc, verified string) error {
	if err := snapshots.Recover(disk, home.StateDir(homeDir)); err != nil {
		return err
	}
	in, err := ReadMarker(disk, homeDir)
	if err != nil || in.SnapshotID == "" {
		return err
	}
	l, done, err := log()
	if err == nil && l == nil {
		err = home.StateWithoutLog(disk, homeDir) // the record that decides may have been in a log that is lost
	}
	if err != nil {
		return err
	}

	var rec *logv1.SnapshotInstalled
	var at uint64
	var id [16]byte

	if l != nil {
		rec, at, err = newestSince(l, in.From)
		id = l.ID()
		if err = errors.Join(err, done()); err != nil {
			return err
		}
	}

	dir := snapshots.Dir{FS: disk, Path: home.SnapshotDir(homeDir)}

	if rec == nil {
		err = forget(dir, in.SnapshotID)
	} else {
		err = complete(dir, homeDir, in.SnapshotID, rec,
			snapshots.Installing{State: home.StateDir(homeDir), LogID: id, Index: at,
				Verified: in.SnapshotID == verified})
	}

	if err != nil {
		return err
	}

	return removeMarker(disk, homeDir)
}

// complete installs the snapshot that a marker and a record name.
func complete(dir snapshots.Dir, home, id string, rec *logv1.SnapshotInstalled, in snapshots.Installing) error {
	m, err := dir.Find(id)
	if err == nil && !Installs(rec, m) {
		err = fmt.Errorf("record %d installed another snapshot, of height %d", in.Index, rec.Height)
	}
	if err != nil {
		return exit.Damaged(fmt.Errorf("%s names a snapshot that was about to be installed: %w", MarkerPath(home),
			err))
	}

	if _, err := dir.Install(context.Background(), m.ID, in); err != nil {
		return err
	}

	return snapshots.Discard(dir.FS, in.State)
}

// forget removes a snapshot if it was made only to be installed.
func forget(dir snapshots.Dir, id string) error {
	m, err := dir.Find(id)
	if errors.Is(err, snapshots.ErrNone) || err == nil && m.Source != PeerSource {
		return nil
	}
	return errors.Join(err, dir.Remove(m.ID))
}

// installedAt returns the index of a log's newest record that installed a snapshot; 0 if there is
// none.
func installedAt(l *eventlog.Log, m snapshots.Manifest) (at uint64, err error) {
	err = eachInstalled(l, l.First(), func(index uint64, rec *logv1.SnapshotInstalled) {
		if Installs(rec, m) {
			at = index
		}
	})
	return at, err
}

// newestSince returns a log's newest SnapshotInstalled at or after record from, and its index; nil
// if there is none. A from of 0 stands for the last record of the log.
func newestSince(l *eventlog.Log, from uint64) (rec *logv1.SnapshotInstalled, at uint64, err error) {
	last := l.Durable()
	if last < l.First() {
		return nil, 0, nil
	}
	if from == 0 {
		from = last
	}
	err = eachInstalled(l, max(from, l.First()), func(index uint64, r *logv1.SnapshotInstalled) { rec, at = r, index })
	return rec, at, err
}

// eachInstalled calls f for each SnapshotInstalled of a log at or after record from.
func eachInstalled(l *eventlog.Log, from uint64, f func(at uint64, rec *logv1.SnapshotInstalled)) error {
	for e, err := range chain.Records(l.Cursor, from, chain.End, chain.KindSnapshotInstalled) {
		if err != nil {
			return err
		}
		m, err := chain.DecodeRecord(e)
		if err != nil {
			return fmt.Errorf("%w: %w", exit.ErrDamage, err)
		}
		f(e.Index, m.(*logv1.SnapshotInstalled))
	}

	return nil
}
