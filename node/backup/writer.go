package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// The files of a backup.
const (
	FileName      = "backup.json" // written last: it makes the rest a backup
	LogName       = "log"
	SnapshotsName = "snapshots"
	formatVersion = 2 // 1 had no digests of its files
	PartialSuffix = ".partial"
)

// BackupInfo says what a backup is.
type Info struct {
	Format   int           `json:"format"`
	ChainID  string        `json:"chain_id"`
	Period   uint64        `json:"period"`
	Height   uint64        `json:"height"`   // committed, by the records
	AppHash  snapshots.Hex `json:"app_hash"` // at that height
	Snapshot string        `json:"snapshot"` // its id
	LogID    snapshots.Hex `json:"log_id"`   // of the log that it is of
	First    uint64        `json:"first"`    // record
	Last     uint64        `json:"last"`     // record
	Digest   snapshots.Hex `json:"digest"`   // SHA-256 over the records
	Bytes    int64         `json:"bytes"`    // of the snapshot
	Token    bool          `json:"token"`    // the admin token is in it
	Created  time.Time     `json:"created"`
	Program  string        `json:"program"`

	Files map[string]snapshots.Hex `json:"files,omitempty"` // SHA-256 of those beside the log and the snapshot
	Sum   snapshots.Hex            `json:"sum,omitempty"`   // SHA-256 of this file, with "" in the sum's place
}

// BackupWriter is the receiving side of a backup. It is for one goroutine.
type Writer struct {
	Dest, tmp string
	token     []byte
	progress  func(step string, done, total uint64)
	info      Info
	manifest  snapshots.Manifest

	log   *eventlog.Log
	next  uint64
	sum   recordSum
	ended bool

	file    *os.File
	name    string
	written int64
}

// NewBackupWriter begins a backup in dest, which must not exist or be empty; until Finish, what
// there is of it lies beside dest, in a directory of that name with ".partial". Errors are
// ErrConfig.
func NewWriter(dest string, o Options) (*Writer, error) {
	dest, err := RequireVacant(dest)
	if err != nil {
		return nil, err
	}

	w := &Writer{Dest: dest, tmp: dest + PartialSuffix, progress: o.ProgressFunc(), sum: newRecordSum(),
		token: o.Token}

	w.info = Info{Format: formatVersion, Program: o.Program, Created: time.Now().UTC().Truncate(time.Millisecond),
		Token: len(o.Token) > 0}

	if err := os.RemoveAll(w.tmp); err != nil {
		return nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	if err := os.MkdirAll(w.tmp, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	return w, nil
}

// vacant refuses a place where something is.
func RequireVacant(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return path, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	names, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path, nil
	case err != nil:
		return path, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	case len(names) > 0:
		return path, fmt.Errorf("%w: %s is not empty: want a directory that does not exist, or an empty one",
			exit.ErrConfig, path)
	}

	return path, nil
}

// Abandon removes what there is of a backup that was not finished.
func (w *Writer) Abandon() {
	if w.file != nil {
		w.file.Close()
	}
	if w.log != nil {
		w.log.Close() // nothing of it is wanted
	}
	os.RemoveAll(w.tmp)
}

// Take takes the next part.
func (w *Writer) Take(part *apiv1.BackupResponse) error {
	switch p := part.Part.(type) {
	case *apiv1.BackupResponse_Begin:
		return w.begin(p.Begin)

	case *apiv1.BackupResponse_File:
		return w.piece(p.File)

	case *apiv1.BackupResponse_Records:
		return w.records(p.Records)

	case *apiv1.BackupResponse_End:
		if digest := w.sum.h.Sum(nil); !bytes.Equal(digest, p.End.Digest) || w.next != w.info.Last+1 {
			return fmt.Errorf("backup: the records up to %d have digest %x, want %x up to %d", w.next-1, digest,
				p.End.Digest, w.info.Last)
		}
		w.info.Digest, w.ended = p.End.Digest, true
		return nil
	}
	return fmt.Errorf("backup: a part that this version does not know: %T; the node is of another version", part.Part)
}

func (w *Writer) begin(b *apiv1.BackupBegin) (err error) {
	if w.log != nil {
		return errors.New("backup: it began twice")
	}
	if w.manifest, err = snapshots.ParseManifest(b.Snapshot); err != nil {
		return err
	}

	w.info.Snapshot, w.info.LogID, w.info.First, w.info.Last, w.info.Bytes = w.manifest.ID, b.LogId, b.First, b.Last, w.
		manifest.Bytes

	w.info.ChainID, w.info.Period, w.info.Height, w.info.AppHash = w.manifest.ChainID, w.manifest.Period, w.manifest.
		Height, w.manifest.AppHash
	w.next = b.First
	if b.First == 0 || b.First > w.manifest.Index+1 || b.Last+1 < b.First {
		return fmt.Errorf("backup: records %d to %d do not follow on snapshot %s", b.First, b.Last, w.manifest.ID)
	}
	if err := os.MkdirAll(filepath.Join(w.tmp, SnapshotsName, w.manifest.ID), 0o700); err != nil {
		return err
	}

	w.log, err = eventlog.Open(filepath.Join(w.tmp, LogName), eventlog.Options{FirstIndex: b.First})
	return err
}

// place is where a file of a backup lies; only names that a backup has are taken.
func (w *Writer) place(name string) (string, error) {
	if name == chain.GenesisFile || name == config.FileName {
		return filepath.Join(w.tmp, name), nil
	}

	base, ok := strings.CutPrefix(name, snapshotPrefix)

	for _, f := range w.manifest.Files {
		if ok && f.Name == base && filepath.IsLocal(base) && filepath.Base(base) == base {
			return filepath.Join(w.tmp, SnapshotsName, w.manifest.ID, base), nil
		}
	}

	return "", fmt.Errorf("backup: a file that does not belong there: %q", name)
}

func (w *Writer) piece(p *apiv1.BackupFile) (err error) {
	if w.file == nil {
		path, err := w.place(p.Name)
		if err != nil {
			return err
		}
		if w.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return err
		}
		w.name = p.Name
	}

	if p.Name != w.name {
		return fmt.Errorf("backup: a piece of %q in the middle of %q", p.Name, w.name)
	}
	if _, err := w.file.Write(p.Data); err != nil {
		return err
	}

	w.written += int64(len(p.Data))
	w.progress("copy", uint64(w.written), uint64(max(w.written, w.info.Bytes)))
	if !p.Last {
		return nil
	}

	f := w.file
	w.file = nil

	return errors.Join(f.Sync(), f.Close())
}

func (w *Writer) records(p *apiv1.BackupRecords) error {
	if w.log == nil || p.First != w.next {
		return fmt.Errorf("backup: records from %d on, want %d", p.First, w.next)
	}

	recs := make([]eventlog.Record, len(p.Records))

	for i, r := range p.Records {
		recs[i] = eventlog.Record{Kind: eventlog.Kind(r.Kind), Data: r.Data}
		w.sum.add(uint8(r.Kind), r.Data)

		if recs[i].Kind == chain.KindBlockCommitted && w.next+uint64(i) > w.manifest.Index {
			m, err := chain.DecodeRecord(eventlog.Entry{Index: w.next + uint64(i), Kind: recs[i].Kind, Data: r.Data})
			if err != nil {
				return err
			}
			b := m.(*logv1.BlockCommitted)
			w.info.ChainID, w.info.Period, w.info.Height, w.info.AppHash = b.ChainId, b.Period, b.Height, b.AppHash
		}
	}

	if _, err := w.log.AppendNoSync(context.Background(), recs...); err != nil {
		return err
	}

	w.next += uint64(len(recs))
	w.progress("records", w.next-w.info.First, w.info.Last+1-w.info.First)

	return nil
}

// Finish verifies what was written, every byte of it, and gives it its name.
func (w *Writer) Finish(ctx context.Context) (Info, error) {
	if !w.ended || w.file != nil {
		return w.info, errors.New("backup: it was cut short")
	}
	if err := w.log.Close(); err != nil {
		return w.info, err
	}

	w.log = nil

	if w.info.Token {
		if err := home.WriteNew(filepath.Join(w.tmp, api.TokenFileName), w.token, 0o600); err != nil {
			return w.info, err
		}
	}

	dir := filepath.Join(w.tmp, SnapshotsName, w.manifest.ID)
	data, err := json.MarshalIndent(w.manifest, "", "  ")
	if err == nil {
		err = home.WriteNew(filepath.Join(dir, "snapshot.json"), append(data, '\n'), 0o600)
	}
	if err == nil {
		data, err = w.seal()
	}
	if err == nil {
		err = home.WriteNew(filepath.Join(w.tmp, FileName), data, 0o600)
	}
	if err == nil {
		_, err = Verify(ctx, w.tmp, w.progress)
	}

	for _, d := range []string{dir, filepath.Dir(dir), w.tmp} {
		if err == nil {
			err = home.SyncDir(d)
		}
	}

	if err == nil {
		err = os.Rename(w.tmp, w.Dest)
	}
	if err == nil {
		err = home.SyncDir(filepath.Dir(w.Dest))
	}

	return w.info, err
}

// ReadBackup tells what a backup is. Errors are ErrConfig (it is none) and ErrDamage.
func Read(src string) (info Info, err error) {
	path := filepath.Join(src, FileName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(src, SnapshotsName)); err == nil {
			return info, fmt.Errorf("%w: %s is not whole, if it is a backup of coppice (%s is missing)", exit.ErrDamage,
				src, FileName)
		}
		return info, fmt.Errorf("%w: %s is no backup of coppice (%s is missing)", exit.ErrConfig, src, FileName)
	}

	if err != nil {
		return info, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&info); err != nil {
		return info, fmt.Errorf("%w: %s, near byte %d: %w", exit.ErrDamage, path, d.InputOffset(), err)
	}

	if info.Format < 1 || info.Format > formatVersion {
		return info, fmt.Errorf("%w: %s: format %d, want 1 to %d: another version of coppice made it",
			exit.ErrConfig, path,
			info.Format, formatVersion)
	}

	return info, info.sealed(path, data)
}

// VerifyBackup reads every byte of a backup: its log, the digest of its records, and its snapshot,
// whose app hash it recomputes. Errors are ErrConfig (it is none) and ErrDamage.
func Verify(ctx context.Context, src string, progress func(step string, done, total uint64)) (Info, error) {
	info, err := Read(src)
	if err != nil {
		return info, err
	}
	if progress == nil {
		progress = func(string, uint64, uint64) {}
	}

	damaged := func(format string, args ...any) error {
		return fmt.Errorf("%w: backup %s: %w", exit.ErrDamage, src, fmt.Errorf(format, args...))
	}

	if err := info.sameFiles(src); err != nil {
		return info, damaged("%w", err)
	}

	sum := newRecordSum()
	next := info.First
	if err := ReadRecords(ctx, filepath.Join(src, LogName), func(e eventlog.Entry) error {
		sum.add(uint8(e.Kind), e.Data)
		next = e.Index + 1
		progress("verify", e.Index-info.First, info.Last+1-info.First)
		return nil
	}); err != nil {
		return info, damaged("%w", err)
	}

	if digest := sum.h.Sum(nil); next != info.Last+1 || !bytes.Equal(digest, info.Digest) {
		return info, damaged("its log has records %d to %d with digest %x, want %d to %d with %v", info.First, next-1,
			digest, info.First, info.Last, info.Digest)
	}

	m, err := Snapshots(src).Verify(ctx, info.Snapshot, func(done, total uint64) {
		progress("verify", done, total)
	})

	if err != nil {
		return info, damaged("%w", err)
	}
	if m.Index+1 < info.First || !bytes.Equal(m.LogID, info.LogID) {
		return info, damaged("snapshot %s is not what its records follow on", m.ID)
	}

	return info, nil
}

func Snapshots(src string) snapshots.Dir {
	return snapshots.Dir{FS: vfs.Default, Path: filepath.Join(src, SnapshotsName)}
}

// readRecords calls each for the records of a log. Data is valid during the call.
func ReadRecords(ctx context.Context, dir string, each func(eventlog.Entry) error) error {
	l, err := eventlog.OpenReadOnly(dir, eventlog.Options{})
	if err != nil {
		return err
	}
	defer l.Close()
	return EachRecord(ctx, l, l.First(), l.Durable(), each)
}

// copyFile copies a file, durably but for its name.
func CopyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()

	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}

	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}
