package backup

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
)

// Verify reads every byte of a backup: its files, its records with their digest, and its snapshot,
// whose app hash it computes again. progress may be nil. Errors are exit.ErrConfig (src is not a
// backup) and exit.ErrDamage.
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

	if err := info.checkFiles(src); err != nil {
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
		return info, damaged("its records do not follow snapshot %s", m.ID)
	}

	return info, nil
}

// Snapshots returns the directory of the snapshot in a backup.
func Snapshots(src string) snapshots.Dir {
	return snapshots.Dir{FS: vfs.Default, Path: filepath.Join(src, SnapshotsName)}
}
