package storage

import (
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/storage/durable"
)

// manifestFirst makes the name of a new manifest durable before anything can point to it. Pebble
// creates the manifest, then the marker that names it, and syncs the directory once, after both. A
// disk that keeps the marker's name but not the manifest's leaves a state that cannot be opened.
// (Crashing a whole node found this: the marker named a MANIFEST that did not exist.)
type manifestFirst struct{ vfs.FS }

// Create creates the file name. If it is a manifest, Create also syncs its directory.
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
