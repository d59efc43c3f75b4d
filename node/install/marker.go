package install

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/storage/durable"
	"github.com/coppice-go/coppice/node/exit"
)

// Marker names a snapshot that is about to take the place of the state. While a marker exists, the
// log decides whether the snapshot is installed: it is if the log has a SnapshotInstalled for it at
// or after record From.
type Marker struct {
	SnapshotID string // empty: no installation is under way
	From       uint64 // the first record that may say that the snapshot is installed; 0: the log's last
}

// MarkerPath returns the path of a home's marker.
func MarkerPath(home string) string {
	return filepath.Join(home, filepath.FromSlash("data/installing"))
}

// ReadMarker reads the marker of a home. If there is none, it returns the zero Marker.
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
		return in, fmt.Errorf("%w: %s: %q, want the id of a snapshot and the number of a record", exit.ErrDamage,
			MarkerPath(home), text)
	}

	in.SnapshotID = words[0]
	return in, nil
}

// WriteMarker writes the marker of a home durably.
func WriteMarker(disk vfs.FS, home string, in Marker) error {
	return durable.On(disk).Replace(MarkerPath(home), fmt.Appendf(nil, "%s %d\n", in.SnapshotID, in.From), 0o666)
}

// removeMarker removes the marker of a home durably.
func removeMarker(disk vfs.FS, home string) error {
	return durable.On(disk).Remove(MarkerPath(home))
}
