package node

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// Pieces of a backup on the wire.
const (
	backupPiece   = 256 << 10 // bytes of a file
	backupRecords = 512 << 10 // bytes of records, or one that is larger
)

// snapshotPrefix is where the snapshot's files lie in a backup.
const snapshotPrefix = "snapshot/"

// backup is the sending side: what it takes to make another home of this one.
type backup struct {
	home        string
	dir         snapshots.Dir
	manifest    snapshots.Manifest
	first, last uint64 // records
	cur         *eventlog.Cursor
	send        func(*apiv1.BackupResponse) error
}

func (b *backup) run(ctx context.Context) error {
	m, err := json.Marshal(b.manifest)
	if err != nil {
		return err
	}

	if err := b.send(&apiv1.BackupResponse{Part: &apiv1.BackupResponse_Begin{Begin: &apiv1.BackupBegin{
		Snapshot: m, First: b.first, Last: b.last, LogId: b.manifest.LogID, Bytes: b.manifest.Bytes,
	}}}); err != nil {
		return err
	}

	for _, name := range []string{genesisFile, config.FileName} {
		if err := b.file(ctx, name, func() (io.ReadCloser, error) {
			return os.Open(filepath.Join(b.home, name))
		}); err != nil {
			return err
		}
	}

	for _, f := range b.manifest.Files {
		path := b.dir.FS.PathJoin(b.dir.Path, b.manifest.ID, f.Name)
		if err := b.file(ctx, snapshotPrefix+f.Name, func() (io.ReadCloser, error) {
			return b.dir.FS.Open(path)
		}); err != nil {
			return err
		}
	}

	digest, err := b.records(ctx)
	if err != nil {
		return err
	}

	return b.send(&apiv1.BackupResponse{Part: &apiv1.BackupResponse_End{End: &apiv1.BackupEnd{Digest: digest}}})
}

func (b *backup) file(ctx context.Context, name string, open func() (io.ReadCloser, error)) error {
	f, err := open()
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer f.Close()

	for last := false; !last; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}

		piece := make([]byte, backupPiece)
		n, err := io.ReadFull(f, piece)
		if last = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF); err != nil && !last {
			return fmt.Errorf("backup: reading %s: %w", name, err)
		}

		if err := b.send(&apiv1.BackupResponse{
			Part: &apiv1.BackupResponse_File{File: &apiv1.BackupFile{Name: name, Data: piece[:n],
				Last: last}}}); err != nil {
			return err
		}
	}

	return nil
}

func (b *backup) records(ctx context.Context) (digest []byte, err error) {
	sum := newRecordSum()
	part, size := &apiv1.BackupRecords{First: b.first}, 0
	flush := func() error {
		if len(part.Records) == 0 {
			return nil
		}
		err := b.send(&apiv1.BackupResponse{Part: &apiv1.BackupResponse_Records{Records: part}})
		part, size = &apiv1.BackupRecords{First: part.First + uint64(len(part.Records))}, 0
		return err
	}

	for next := b.first; next <= b.last; next++ {
		e, err := b.cur.Next(ctx)
		if err != nil {
			return nil, fmt.Errorf("backup: record %d: %w", next, err)
		}

		sum.add(uint8(e.Kind), e.Data)
		part.Records = append(part.Records,
			&apiv1.BackupRecord{Kind: uint32(e.Kind), Data: append([]byte(nil), e.Data...)})

		if size += len(e.Data); size >= backupRecords {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}

	return sum.h.Sum(nil), flush()
}

// recordSum is the digest of a backup's records.
type recordSum struct{ h hash.Hash }

func newRecordSum() recordSum { return recordSum{sha256.New()} }

func (s recordSum) add(kind uint8, data []byte) {
	var head [5]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(data)))
	s.h.Write(head[:])
	s.h.Write(data)
}

// BackupOptions say what goes into a backup beside the home's own.
type BackupOptions struct {
	Program  string // that makes it, and its version
	Token    []byte // the admin token, if it is to be in it: whoever has the backup then holds power over the node
	Progress func(step string, done, total uint64)

	Fatal func(error) // as SnapshotOptions.Fatal
}

func (o BackupOptions) progress() func(step string, done, total uint64) {
	if o.Progress == nil {
		return func(string, uint64, uint64) {}
	}
	return o.Progress
}

// Backup makes a backup of a stopped home in dest, which must not exist or be empty. It appears
// there whole and verified, or not at all. Errors are ErrDamage, ErrHomeInUse (then a node runs,
// and SnapshotService makes it) and ErrConfig.
func Backup(ctx context.Context, home, dest string, o BackupOptions) (BackupInfo, error) {
	h, err := openStopped(home, nil, nil)
	if err != nil {
		return BackupInfo{}, err
	}
	defer h.Close()

	h.fatal = o.Fatal
	if err := refuseComet(home); err != nil {
		return BackupInfo{}, err
	}

	info, err := h.backup(ctx, dest, o)
	return info, exit.Classify(err)
}

func (h *stoppedHome) backup(ctx context.Context, dest string, o BackupOptions) (info BackupInfo, err error) {
	progress := o.progress()
	m, _, err := h.create(ctx, o.Program, func(done, total uint64) { progress("snapshot", done, total) })
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, snapshots.ErrNone) {
		return info, fmt.Errorf("%w: %s was never started: there is nothing to back up but its files",
			exit.ErrConfig, h.home)
	}

	if err != nil {
		return info, err
	}
	w, err := NewBackupWriter(dest, o)
	if err != nil {
		return info, err
	}
	defer w.Abandon()

	l, err := h.readLog()
	if err != nil {
		return info, err
	}
	defer l.Close()

	floor, err := poolFloor(ctx, l, progress)
	if err != nil {
		return info, err
	}
	b := backup{home: h.home, dir: h.dir(), manifest: m, first: min(m.Index+1, floor), last: l.Durable(), send: w.Take}
	if b.cur, err = l.Cursor(b.first); err != nil {
		return info, err
	}
	defer b.cur.Close()

	if err := b.run(ctx); err != nil {
		return info, err
	}

	return w.Finish(ctx)
}

// poolFloor is the oldest TxLaunched of a log without a terminal record; the log's end and one if
// there is none.
func poolFloor(ctx context.Context, l *eventlog.Log, progress func(step string, done, total uint64)) (uint64, error) {
	pending, first, last := newPending(), l.First(), l.Durable()
	err := eachRecord(ctx, l, first, last, func(e eventlog.Entry) error {
		if e.Index%1024 == 0 {
			progress("pool", e.Index-first, last+1-first)
		}
		return pending.entry(e)
	})
	return pending.floor(last + 1), err
}

// eachRecord reads the records from to to, of which there may be none.
func eachRecord(ctx context.Context, l *eventlog.Log, from, to uint64, f func(eventlog.Entry) error) error {
	if from > min(to, l.Durable()) {
		return nil
	}
	cur, err := l.Cursor(from)
	if err != nil {
		return err
	}
	defer cur.Close()

	for ctx.Err() == nil {
		e, ok, err := cur.TryNext()
		if err != nil || !ok {
			return err
		}
		if err := f(e); err != nil || e.Index == to {
			return err
		}
	}

	return context.Cause(ctx)
}
