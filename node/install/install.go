package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/durable"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// installingFile names the snapshot that is about to take the state's place and of which the log is
// told. While it is there, what the log has from the record on that it names too decides whether
// that has happened.
const markerFile = "data/installing"

// syncSource is the source of a snapshot that was made of a peer's state.
const PeerSource = "state sync"

func MarkerPath(home string) string {
	return filepath.Join(home, filepath.FromSlash(markerFile))
}

func StateFrom(m snapshots.Manifest, index uint64) chain.State {
	return chain.State{ChainID: m.ChainID, Period: m.Period, Height: m.Height, AppHash: m.AppHash, Index: index}
}

// installs tells whether a record installed this snapshot.
func Installs(r *logv1.SnapshotInstalled, m snapshots.Manifest) bool {
	return r.ChainId == m.ChainID && r.Period == m.Period && r.Height == m.Height && bytes.Equal(r.AppHash,
		m.AppHash) && bytes.Equal(r.SnapshotHash, m.Hash())
}

// installedAt is the newest record of a log that installed a snapshot; 0 where there is none.
func installedAt(l *eventlog.Log, m snapshots.Manifest) (at uint64, err error) {
	err = eachInstalled(l, l.First(), func(index uint64, rec *logv1.SnapshotInstalled) {
		if Installs(rec, m) {
			at = index
		}
	})
	return at, err
}

// installedRecord says that a snapshot has taken the state's place.
func NewRecord(m snapshots.Manifest) (eventlog.Record, error) {
	return chain.NewRecord(&logv1.SnapshotInstalled{
		ChainId: m.ChainID, Period: m.Period, Height: m.Height, AppHash: m.AppHash, SnapshotHash: m.Hash(),
		Source: m.Source,
	})
}

// A logSource opens the log that tells whether a snapshot was installed; nil where there is none.
type OpenLogFunc func() (l *eventlog.Log, done func() error, err error)

// logOnDisk is the log of a home that no node runs in.
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

// settleInstall completes an installation of which the log was told before a crash, and forgets one
// of which it was not. It also ends an exchange of states that was cut short. It is called before a
// state is opened, with the home locked. verified is the id of a snapshot that this process took
// itself, empty for none.
func Settle(disk vfs.FS, homeDir string, log OpenLogFunc, verified string) error {
	if err := snapshots.Recover(disk, home.StateDir(homeDir)); err != nil {
		return err
	}
	in, err := ReadMarker(disk, homeDir)
	if err != nil || in.SnapshotID == "" {
		return err
	}
	l, done, err := log()
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

func complete(dir snapshots.Dir, home, id string, rec *logv1.SnapshotInstalled, in snapshots.Installing) error {
	m, err := dir.Find(id)
	if err == nil && !Installs(rec, m) {
		err = fmt.Errorf("record %d installed another one, of height %d", in.Index, rec.Height)
	}

	if err != nil {
		return fmt.Errorf("%w: %s names a snapshot that was about to be installed: %w", exit.ErrDamage,
			MarkerPath(home), err)
	}

	if _, err := dir.Install(context.Background(), m.ID, in); err != nil {
		return err
	}

	return snapshots.Discard(dir.FS, in.State)
}

// forgetInstall removes the snapshot if it was made to be installed.
func forget(dir snapshots.Dir, id string) error {
	m, err := dir.Find(id)
	if errors.Is(err, snapshots.ErrNone) || err == nil && m.Source != PeerSource {
		return nil
	}
	return errors.Join(err, dir.Remove(m.ID))
}

// installing is what installingFile says; the zero value where there is no such file.
type Marker struct {
	SnapshotID string
	From       uint64 // the first record that may say that it is installed; 0: the log's last
}

func ReadMarker(disk vfs.FS, home string) (in Marker, err error) {
	f, err := disk.Open(MarkerPath(home))
	if errors.Is(err, fs.ErrNotExist) {
		return in, nil
	}
	if err != nil {
		return in, err
	}
	text, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return in, err
	}
	words := strings.Fields(string(text))
	if len(words) == 2 {
		in.From, err = strconv.ParseUint(words[1], 10, 64)
	}

	if len(words) < 1 || len(words) > 2 || err != nil {
		return in, fmt.Errorf("%w: %s: %q, want the id of a snapshot, and the number of a record", exit.ErrDamage,
			MarkerPath(home), text)
	}

	in.SnapshotID = words[0]

	return in, nil
}

func WriteMarker(disk vfs.FS, home string, in Marker) error {
	return durable.ReplaceFile(disk, MarkerPath(home), fmt.Appendf(nil, "%s %d\n", in.SnapshotID, in.From))
}

func removeMarker(disk vfs.FS, home string) error {
	if err := disk.Remove(MarkerPath(home)); err != nil {
		return err
	}
	return durable.SyncDir(disk, filepath.Dir(MarkerPath(home)))
}

// installedSince is the log's newest SnapshotInstalled from a record on; nil where there is none.
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

// installTurn is held by code that begins or settles an installation: between the name of a snapshot
// and its record, nobody can tell what is to come of it.
type Mutex struct {
	sync.Mutex

	// verified is the id of the snapshot that this process made last to be installed, whose files
	// need no check.
	Verified string
}

// eachInstalled calls f for each SnapshotInstalled of a log from a record on.
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
