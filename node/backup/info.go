package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/internal/syserr"
	"github.com/coppice-go/coppice/node/backends"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/history"
)

// The files and directories of a backup.
const (
	FileName      = "backup.json" // written last: this file makes the directory a backup
	LogName       = "log"
	SnapshotsName = "snapshots"
	ConsensusName = "consensus" // the files of the kind of consensus
	StreamsName   = "streams"   // definitions of streams, and the gates; no slot files
)

// PartialSuffix ends the name of the directory in which a backup is made.
const PartialSuffix = ".partial"

// Formats of backups. Format 1 had no digests of its files. A backup has the lowest format that can
// say what it is.
const (
	formatDigests   = 2
	formatConsensus = 3 // it has files of the consensus
	formatStreams   = 4 // it has definitions of streams
	newestFormat    = formatStreams
)

// Info describes a backup. It is the content of backup.json.
type Info struct {
	Format   int           `json:"format"`
	ChainID  string        `json:"chain_id"`
	Period   uint64        `json:"period"`
	Height   uint64        `json:"height"`   // the last committed one in the backup
	AppHash  snapshots.Hex `json:"app_hash"` // at that height
	Snapshot string        `json:"snapshot"` // its id
	LogID    snapshots.Hex `json:"log_id"`   // of the log that the records are from
	First    uint64        `json:"first"`    // record
	Last     uint64        `json:"last"`     // record
	Digest   snapshots.Hex `json:"digest"`   // SHA-256 over the records
	Bytes    int64         `json:"bytes"`    // of the snapshot
	Token    bool          `json:"token"`    // the admin token is in the backup
	Created  time.Time     `json:"created"`
	Program  string        `json:"program"`

	// Consensus says which files of the consensus are in the backup; nil: it keeps none of its own.
	Consensus *consensus.Facts `json:"consensus,omitempty"`

	// Streams are the names of the files in StreamsName.
	Streams []string `json:"streams,omitempty"`

	// Facts of the home that the backup is from; empty if that home did not know them.
	Backends backends.Record  `json:"backends,omitempty"` // what its chain needs
	History  *history.History `json:"history,omitempty"`  // of its log

	Files map[string]snapshots.Hex `json:"files,omitempty"` // SHA-256 of the files beside the log and the snapshot
	Sum   snapshots.Hex            `json:"sum,omitempty"`   // SHA-256 of this file with an empty sum
}

// Read returns the description of a backup. Errors are exit.ErrConfig (src is not a backup) and
// exit.ErrDamage.
func Read(src string) (info Info, err error) {
	path := filepath.Join(src, FileName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(src, SnapshotsName)); err == nil {
			return info, fmt.Errorf("%w: %s looks like an incomplete backup of coppice (%s is missing)", exit.ErrDamage,
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
		return info, fmt.Errorf("%w: %s: %w", exit.ErrDamage, path, chain.JSONError(err))
	}

	if info.Format < 1 || info.Format > newestFormat {
		return info, fmt.Errorf("%w: %s: format %d, want 1 to %d: another version of coppice made it",
			exit.ErrConfig, path, info.Format, newestFormat)
	}

	return info, info.checkSum(path, data)
}

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
		err := fmt.Errorf(format, args...)
		switch {
		case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
			return fmt.Errorf("%w: backup %s: %w", exit.ErrConfig, src, err)
		case syserr.Is(err), ctx.Err() != nil:
			return fmt.Errorf("backup %s: %w", src, err)
		}
		return fmt.Errorf("%w: backup %s: %w", exit.ErrDamage, src, err)
	}

	if err := info.checkFiles(ctx, src, progress); err != nil {
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
