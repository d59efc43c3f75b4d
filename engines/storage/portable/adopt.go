package portable

import (
	"bytes"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"strings"

	"github.com/coppice-go/coppice/engines/storage/durable"
)

// stagedPrefix begins the names of the directories that Stage makes.
const stagedPrefix = "tmp-import-"

// ErrStale: a snapshot would be removed at once, because there are enough newer ones.
var ErrStale = errors.New("snapshot is too old to be kept")

// Adopt gives a snapshot that Stage has written its name. It reads every chunk once more. accept,
// if set, may refuse the snapshot. keep is the number of snapshots that Keep will leave. A snapshot
// that is there already is left as it is. After an error, the staged directory is gone. Errors are
// ErrNone, ErrChunk, ErrSnapshot, ErrStale, and those of accept and the disk. Adopt must not run
// beside Take, Remove, Keep or Settle.
func (d Dir) Adopt(staged string, keep int, accept func(Metadata) error) (m Metadata, err error) {
	if !strings.HasPrefix(staged, stagedPrefix) || strings.ContainsAny(staged, `/\`) {
		return m, fmt.Errorf("%w: %q, want the name of a staged snapshot, such as %s1", ErrNone, staged, stagedPrefix)
	}

	dir := d.path(staged)
	defer func() { err = errors.Join(err, d.FS.RemoveAll(dir)) }() // it is gone if it has its name

	if m, err = d.readStaged(dir); err != nil {
		return m, err
	}
	if accept != nil {
		if err := accept(m); err != nil {
			return m, err
		}
	}

	list, err := d.List()
	if err != nil {
		return m, err
	}
	if slices.ContainsFunc(list, func(o Metadata) bool { return bytes.Equal(o.Hash(), m.Hash()) }) {
		return m, nil
	}

	newer := 0
	for _, o := range list {
		if o.Period > m.Period || o.Period == m.Period && o.Height > m.Height {
			newer++
		}
	}
	if newer >= keep {
		return m, fmt.Errorf("%w: it is of height %d, and there are %d newer ones, of which %d are kept", ErrStale,
			m.Height, newer, keep)
	}

	if err := d.FS.RemoveAll(d.durable().New()); err != nil {
		return m, err
	}
	if err := durable.On(d.FS).Rename(dir, d.durable().New()); err != nil {
		return m, err
	}
	if err := d.name(m); err != nil {
		return m, errors.Join(err, d.FS.RemoveAll(d.durable().New()))
	}

	return m, nil
}

// readStaged reads the metadata of a staged snapshot, and all of its chunks.
func (d Dir) readStaged(dir string) (Metadata, error) {
	b, err := readFile(d.FS, d.FS.PathJoin(dir, metadataName), maxMetadata)
	if errors.Is(err, iofs.ErrNotExist) {
		return Metadata{}, fmt.Errorf("%w: %w", ErrNone, err)
	}
	if err != nil {
		return Metadata{}, err
	}
	m, err := Decode(b)
	if err != nil {
		return m, err
	}

	i := Import{Metadata: m}
	for place := range m.Chunks {
		chunk, err := readFile(d.FS, d.FS.PathJoin(dir, chunkName(place)), maxChunkBytes)
		if err != nil {
			return m, err
		}
		if err := i.Check(uint32(place), chunk); err != nil {
			return m, err
		}
	}

	return m, nil
}
