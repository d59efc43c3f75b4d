package storage

import (
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/storage/durable"
)

// manifestFirst makes the name of a new manifest durable before anything can point to it. Pebble
// creates the manifest, then the marker that names it, and syncs the directory once, after both: a
// disk that keeps the second name and not the first leaves a state that does not open. (Found by
// crashing a whole node: the marker named a MANIFEST that was not there.)
type manifestFirst struct{ vfs.FS }

// Create creates name, and syncs its directory when it is a manifest.
func (m manifestFirst) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := m.FS.Create(name, category)
	if err != nil || !strings.HasPrefix(m.PathBase(name), "MANIFEST-") {
		return f, err
	}
	if err := durable.On(m.FS).SyncDir(m.PathDir(name)); err != nil {
		return nil, errors.Join(err, f.Close())
	}

	return f, nil
}

// Unwrap returns the file system underneath.
func (m manifestFirst) Unwrap() vfs.FS { return m.FS }
