package node

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

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/durable"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// installingFile names the snapshot that is about to take the state's place and of which the log is
// told. While it is there, what the log has from the record on that it names too decides whether
// that has happened.
const installingFile = "data/installing"

func installingPath(home string) string {
	return filepath.Join(home, filepath.FromSlash(installingFile))
}

func stateOf(m snapshots.Manifest, index uint64) chain.State {
	return chain.State{ChainID: m.ChainID, Period: m.Period, Height: m.Height, AppHash: m.AppHash, Index: index}
}

// installs tells whether a record installed this snapshot.
func installs(r *logv1.SnapshotInstalled, m snapshots.Manifest) bool {
	return r.ChainId == m.ChainID && r.Period == m.Period && r.Height == m.Height && bytes.Equal(r.AppHash,
		m.AppHash) && bytes.Equal(r.SnapshotHash, m.Hash())
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

// installedAt is the newest record of a log that installed a snapshot; 0 where there is none.
func installedAt(l *eventlog.Log, m snapshots.Manifest) (at uint64, err error) {
	err = eachInstalled(l, l.First(), func(index uint64, rec *logv1.SnapshotInstalled) {
		if installs(rec, m) {
			at = index
		}
	})
	return at, err
}

// InstallSnapshot puts a snapshot of another node of the same chain, which lies among the home's
// snapshots, in the place of the state of a stopped home, and says so in its log
// (SnapshotInstalled): replay and verification go on from there. The snapshot must be ahead of the
// state. It is verified before; who vouches for its app hash is the caller's business. A crash
// leaves all done or nothing, with the next start. Errors are exit.ErrDamage, ErrHomeInUse,
// ErrConfig and snapshots.ErrNone.
func InstallSnapshot(ctx context.Context, home, id string, progress func(done, total uint64)) (snapshots.Manifest,
	error) {
	h, err := openStopped(home, nil, nil)
	if err != nil {
		return snapshots.Manifest{}, err
	}
	defer h.Close()
	m, err := h.install(ctx, id, progress)
	return m, exit.Classify(err)
}

func (h *stoppedHome) install(ctx context.Context, id string, progress func(done, total uint64)) (m snapshots.Manifest,
	err error) {
	if m, err = h.dir().Verify(ctx, id, progress); err != nil {
		return m, err
	}
	if err := h.ahead(m); err != nil {
		return m, err
	}
	rec, err := installedRecord(m)
	if err != nil {
		return m, err
	}
	l, err := eventlog.Open(LogDir(h.home), eventlog.Options{FS: h.logs})
	if err != nil {
		return m, err
	}
	if err = writeInstalling(h.disk, h.home, installing{m.ID, l.Durable() + 1}); err == nil {
		_, err = l.AppendWait(ctx, rec)
	}
	if err = errors.Join(err, l.Close()); err != nil {
		return m, err
	}

	return m, h.settle()
}

// installedRecord says that a snapshot has taken the state's place.
func installedRecord(m snapshots.Manifest) (eventlog.Record, error) {
	return chain.NewRecord(&logv1.SnapshotInstalled{
		ChainId: m.ChainID, Period: m.Period, Height: m.Height, AppHash: m.AppHash, SnapshotHash: m.Hash(),
		Source: m.Source,
	})
}

// ahead refuses a snapshot that is of another chain than the log, or behind it.
func (h *stoppedHome) ahead(m snapshots.Manifest) error {
	l, err := h.readLog()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.Close()

	last, err := lastCommitted(l)
	if err != nil || !last.Started() {
		return err
	}

	if last.ChainID != m.ChainID || last.Period > m.Period || last.Period == m.Period && last.Height >= m.Height {
		return fmt.Errorf("%w: snapshot %s is of %s at height %d (period %d), the log has %s at height %d (period "+
			"%d) already, want one that is ahead",
			exit.ErrConfig, m.ID, m.ChainID, m.Height, m.Period, last.ChainID, last.Height, last.Period)
	}

	return nil
}

// lastCommitted is where the log's records lead to.
func lastCommitted(l *eventlog.Log) (s chain.State, err error) {
	for e, err := range chain.Records(l.Cursor, l.First(), chain.End,
		chain.KindChainStarted, chain.KindBlockCommitted, chain.KindSnapshotInstalled, chain.KindBase) {
		if err != nil {
			return s, err
		}

		m, err := chain.DecodeRecord(e)
		if err != nil {
			return s, fmt.Errorf("%w: %w", exit.ErrDamage, err)
		}

		switch m := m.(type) {
		case *logv1.ChainStarted:
			s = chain.State{ChainID: m.ChainId, Period: m.Period, Index: e.Index}

		case *logv1.BlockCommitted:
			s = chain.State{ChainID: m.ChainId, Period: m.Period, Height: m.Height, AppHash: m.AppHash,
				Index: e.Index}

		case *logv1.SnapshotInstalled:
			s = chain.State{ChainID: m.ChainId, Period: m.Period, Height: m.Height, AppHash: m.AppHash,
				Index: e.Index}

		case *logv1.Base:
			s = chain.State{ChainID: m.ChainId, Period: m.Period, Height: m.Height, AppHash: m.AppHash,
				Index: e.Index}
		}
	}

	return s, nil
}

// A logSource opens the log that tells whether a snapshot was installed; nil where there is none.
type logSource func() (l *eventlog.Log, done func() error, err error)

// logOnDisk is the log of a home that no node runs in.
func logOnDisk(logs eventlog.FS, home string) logSource {
	return func() (*eventlog.Log, func() error, error) {
		l, err := eventlog.OpenReadOnly(LogDir(home), eventlog.Options{FS: logs})
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
func settleInstall(disk vfs.FS, home string, log logSource, verified string) error {
	if err := snapshots.Recover(disk, StateDir(home)); err != nil {
		return err
	}
	in, err := readInstalling(disk, home)
	if err != nil || in.id == "" {
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
		rec, at, err = installedSince(l, in.from)
		id = l.ID()
		if err = errors.Join(err, done()); err != nil {
			return err
		}
	}

	dir := snapshots.Dir{FS: disk, Path: SnapshotDir(home)}

	if rec == nil {
		err = forgetInstall(dir, in.id)
	} else {
		err = completeInstall(dir, home, in.id, rec, snapshots.Installing{State: StateDir(home), LogID: id, Index: at,
			Verified: in.id == verified})
	}

	if err != nil {
		return err
	}

	return removeInstalling(disk, home)
}

func completeInstall(dir snapshots.Dir, home, id string, rec *logv1.SnapshotInstalled, in snapshots.Installing) error {
	m, err := dir.Find(id)
	if err == nil && !installs(rec, m) {
		err = fmt.Errorf("record %d installed another one, of height %d", in.Index, rec.Height)
	}

	if err != nil {
		return fmt.Errorf("%w: %s names a snapshot that was about to be installed: %w", exit.ErrDamage,
			installingPath(home), err)
	}

	if _, err := dir.Install(context.Background(), m.ID, in); err != nil {
		return err
	}

	return snapshots.Discard(dir.FS, in.State)
}

// forgetInstall removes the snapshot if it was made to be installed.
func forgetInstall(dir snapshots.Dir, id string) error {
	m, err := dir.Find(id)
	if errors.Is(err, snapshots.ErrNone) || err == nil && m.Source != syncSource {
		return nil
	}
	return errors.Join(err, dir.Remove(m.ID))
}

// installing is what installingFile says; the zero value where there is no such file.
type installing struct {
	id   string
	from uint64 // the first record that may say that it is installed; 0: the log's last
}

func readInstalling(disk vfs.FS, home string) (in installing, err error) {
	f, err := disk.Open(installingPath(home))
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
		in.from, err = strconv.ParseUint(words[1], 10, 64)
	}

	if len(words) < 1 || len(words) > 2 || err != nil {
		return in, fmt.Errorf("%w: %s: %q, want the id of a snapshot, and the number of a record", exit.ErrDamage,
			installingPath(home), text)
	}

	in.id = words[0]

	return in, nil
}

func writeInstalling(disk vfs.FS, home string, in installing) error {
	return durable.ReplaceFile(disk, installingPath(home), fmt.Appendf(nil, "%s %d\n", in.id, in.from))
}

func removeInstalling(disk vfs.FS, home string) error {
	if err := disk.Remove(installingPath(home)); err != nil {
		return err
	}
	return durable.SyncDir(disk, filepath.Dir(installingPath(home)))
}

// installedSince is the log's newest SnapshotInstalled from a record on; nil where there is none.
func installedSince(l *eventlog.Log, from uint64) (rec *logv1.SnapshotInstalled, at uint64, err error) {
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
