package portable

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/storage/durable"
)

// Dir is a directory of snapshots for peers:
//
//	<dir>/<period>-<height>/metadata
//	                        00000000.chunk …
//	<dir>/tmp-*             a snapshot that is unfinished or being removed; Settle removes it
//
// Only one of Take, Remove, Keep and Settle may run at a time. List and Chunk may run beside them.
type Dir struct {
	FS   vfs.FS
	Path string
}

const metadataName = "metadata"

func chunkName(i int) string { return fmt.Sprintf("%08d.chunk", i) }

func nameOf(period, height uint64) string { return fmt.Sprintf("%d-%d", period, height) }

func (d Dir) durable() durable.Dir { return durable.Dir{FS: d.FS, Path: d.Path} }

func (d Dir) path(name string) string { return d.durable().Join(name) }

// Made returns when the snapshot was made, or the zero time if that is not known.
func (d Dir) Made(m Metadata) time.Time {
	info, err := d.FS.Stat(d.path(nameOf(m.Period, m.Height)))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// Settle removes what a process that died left half done, and creates the directory if it is
// missing.
func (d Dir) Settle() error {
	if _, err := d.durable().Settle(); err != nil {
		return fmt.Errorf("snapshots for peers: %w", err)
	}
	return nil
}

// List returns the readable snapshots, the oldest first. It returns none if the directory is
// missing.
func (d Dir) List() ([]Metadata, error) {
	names, err := d.durable().Names()
	if err != nil {
		return nil, fmt.Errorf("snapshots for peers: %w", err)
	}

	var list []Metadata

	for _, name := range names {
		b, err := readFile(d.FS, d.FS.PathJoin(d.path(name), metadataName), maxMetadata)
		if err != nil {
			continue // the snapshot is being removed, or the directory is not ours
		}
		if m, err := Decode(b); err == nil && name == nameOf(m.Period, m.Height) {
			list = append(list, m)
		}
	}

	slices.SortFunc(list, func(a, b Metadata) int {
		return cmp.Or(cmp.Compare(a.Period, b.Period), cmp.Compare(a.Height, b.Height))
	})

	return list, nil
}

// Chunk reads a chunk of a snapshot that List has returned, and checks it. Errors: ErrNone, and
// ErrChunk for a chunk that is not as it was written.
func (d Dir) Chunk(m Metadata, place uint32) ([]byte, error) {
	if int(place) >= len(m.Chunks) {
		return nil, fmt.Errorf("%w: the snapshot at height %d has %d chunks, no chunk %d", ErrNone, m.Height,
			len(m.Chunks), place)
	}

	path := d.FS.PathJoin(d.path(nameOf(m.Period, m.Height)), chunkName(int(place)))
	b, err := readFile(d.FS, path, maxChunkBytes)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	if err != nil {
		return nil, err
	}

	i := Import{Metadata: m}
	return b, i.Check(place, b)
}

// Remove removes a snapshot. A crash does not leave a half-removed one.
func (d Dir) Remove(m Metadata) error {
	name := nameOf(m.Period, m.Height)
	if err := d.durable().Remove(name); err != nil {
		return fmt.Errorf("snapshot for peers %s: %w", name, err)
	}
	return nil
}

// maxKept is the largest number of snapshots that Keep leaves, however many are in use.
const maxKept = 10

// Keep removes all snapshots except the newest n and the older ones for which inUse returns true.
// It leaves at most maxKept snapshots in all, and returns the ones that are left, the oldest first.
func (d Dir) Keep(n int, inUse func(Metadata) bool) (left []Metadata, err error) {
	list, err := d.List()
	if err != nil {
		return nil, err
	}

	for i, m := range list {
		if after := len(list) - i; after <= n || after <= maxKept && inUse != nil && inUse(m) {
			left = append(left, m)
		} else if err := d.Remove(m); err != nil {
			return append(left, list[i:]...), err
		}
	}

	return left, nil
}

// name gives a finished snapshot its name.
func (d Dir) name(m Metadata) error {
	name := nameOf(m.Period, m.Height)
	// A snapshot with this name is the same one, or an earlier node wrote it differently.
	if _, err := d.FS.Stat(d.path(name)); err == nil {
		if err := d.Remove(m); err != nil {
			return err
		}
	}
	return d.durable().Publish(name)
}

// readFile reads a file of at most most bytes. A larger file is ErrChunk.
func readFile(fs vfs.FS, path string, most int64) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%w: %s has more than %d bytes", ErrChunk, path, most)
	}

	return b, err
}
