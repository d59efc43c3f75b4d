package node

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/eventlog"
)

// truncationFile says up to where the log was allowed to be truncated. It is durable before anything is removed, so a log that
// begins later than it says has lost its front in some other way.
const truncationFile = "data/truncated.json"

const truncationFormat = 1

// truncation is what the file says.
type truncation struct {
	Format int    `json:"format"`
	Log    string `json:"log"`   // identity
	First  uint64 `json:"first"` // the log may begin here, and not later
}

func truncationPath(home string) string {
	return filepath.Join(home, filepath.FromSlash(truncationFile))
}

// allows tells whether the log begins where it may.
func (t truncation) allows(l *eventlog.Log) bool {
	id := l.ID()
	return t.Log == hex.EncodeToString(id[:]) && l.First() <= t.First
}

// readTruncation reads the file; none is the zero value. Errors are ErrDamage.
func readTruncation(disk vfs.FS, home string) (t truncation, err error) {
	path := truncationPath(home)
	f, err := disk.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return t, err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return t, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return t, fmt.Errorf("%w: %s, near byte %d: %w", ErrDamage, path, d.InputOffset(), err)
	}
	if t.Format != truncationFormat {
		return t, fmt.Errorf("%w: %s: format %d, want %d", ErrDamage, path, t.Format, truncationFormat)
	}
	return t, nil
}

// write replaces the file, durably.
func (t truncation) write(disk vfs.FS, home string) error {
	t.Format = truncationFormat
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return replaceOn(disk, truncationPath(home), append(data, '\n'))
}

// replaceOn makes path hold data, durably: after a crash it holds that, or what it held before.
func replaceOn(disk vfs.FS, path string, data []byte) error {
	tmp := path + ".tmp"
	f, err := disk.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := disk.Rename(tmp, path); err != nil {
		return err
	}
	return syncOn(disk, filepath.Dir(path))
}

func syncOn(disk vfs.FS, dir string) error {
	d, err := disk.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
