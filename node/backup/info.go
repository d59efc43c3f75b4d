package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/node/exit"
)

// The files and directories of a backup.
const (
	FileName      = "backup.json" // written last: this file makes the directory a backup
	LogName       = "log"
	SnapshotsName = "snapshots"
)

// PartialSuffix ends the name of the directory in which a backup is made.
const PartialSuffix = ".partial"

// formatVersion is the format of the backups that this program makes. Format 1 had no digests of
// its files.
const formatVersion = 2

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
		return info, fmt.Errorf("%w: %s, near byte %d: %w", exit.ErrDamage, path, d.InputOffset(), err)
	}

	if info.Format < 1 || info.Format > formatVersion {
		return info, fmt.Errorf("%w: %s: format %d, want 1 to %d: another version of coppice made it",
			exit.ErrConfig, path, info.Format, formatVersion)
	}

	return info, info.checkSum(path, data)
}
