package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/cockroachdb/pebble/v2/sstable"
	tableblock "github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// verifyTables reads every byte of the tables of a state that is open for reading only, and checks
// it against the checksums in the tables. A scan of the latest keys reads less: neither older
// versions, nor the blocks and filters of keys that it does not look up. A compaction reads all of
// it, as does an installation of a copy of the state, so the scan alone would call a state whole
// that cannot be used. step is called after each piece of work; its error ends the reading.
func (d *DB) verifyTables(step func() error) error {
	levels, err := d.pdb.SSTables()
	if err != nil {
		return d.fail("listing its tables", err)
	}

	options := d.pebbleOptions()
	options.EnsureDefaults()
	seen := make(map[string]bool)

	for _, level := range levels {
		for _, info := range level {
			name := fmt.Sprintf("%s.sst", info.BackingSSTNum) // several virtual tables may share a file
			if seen[name] {
				continue
			}
			seen[name] = true

			err := verifyTable(d.o.FS, d.o.FS.PathJoin(d.dir, name), options.MakeReaderOptions(), step)
			if stopped := (*stopError)(nil); errors.As(err, &stopped) {
				return stopped.error
			}
			if err != nil {
				return d.fail("reading "+name, err)
			}
		}
	}

	return nil
}

// stopError wraps the error of a step, which is not about the table.
type stopError struct{ error }

// stepBytes is the number of bytes of a table that are read between two steps.
const stepBytes = 1 << 20

// verifyTable checks every block of a table, and that its blocks and its footer are all that the
// file has. An error of step is a stopError.
func verifyTable(fs vfs.FS, path string, o sstable.ReaderOptions, step func() error) (err error) {
	f, err := fs.Open(path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(context.Background(), readable, o)
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	defer func() { err = errors.Join(err, r.Close()) }()

	layout, err := r.Layout()
	if err != nil {
		return err
	}

	// The checksum of the footer, which names the kind of the other checksums, was checked by
	// NewReader.
	kind := make([]byte, 1)
	if err := readable.ReadAt(context.Background(), kind, int64(layout.Footer.Offset)); err != nil {
		return err
	}

	next, stepped := uint64(0), uint64(0)

	for _, h := range blocksOf(layout) {
		if h.Offset != next {
			return fmt.Errorf("%w: its block at byte %d begins at %d", pebble.ErrCorruption, next, h.Offset)
		}
		if err := verifyBlock(readable, tableblock.ChecksumType(kind[0]), h); err != nil {
			return err
		}

		next = h.Offset + h.Length + tableblock.TrailerLen
		if next-stepped < stepBytes {
			continue
		}
		stepped = next
		if err := step(); err != nil {
			return &stopError{err}
		}
	}

	if end := layout.Footer.Offset + layout.Footer.Length; layout.Footer.Offset != next || end != uint64(info.Size()) {
		return fmt.Errorf("%w: its blocks end at byte %d, its footer has bytes %d to %d, and it has %d bytes",
			pebble.ErrCorruption, next, layout.Footer.Offset, end, info.Size())
	}

	return nil
}

// blocksOf returns the places of all blocks of a table, in their order.
func blocksOf(l *sstable.Layout) []tableblock.Handle {
	all := []tableblock.Handle{l.TopIndex, l.RangeDel, l.RangeKey, l.ValueIndex, l.Properties, l.MetaIndex,
		l.BlobReferenceIndex}
	all = append(append(all, l.Index...), l.ValueBlock...)

	for _, h := range l.Data {
		all = append(all, h.Handle)
	}

	for _, h := range l.Filter {
		all = append(all, h.Handle)
	}

	all = slices.DeleteFunc(all, func(h tableblock.Handle) bool { return h.Length == 0 }) // the table has no such block
	slices.SortFunc(all, func(a, b tableblock.Handle) int { return cmp.Compare(a.Offset, b.Offset) })
	return all
}

// verifyBlock checks the checksum of a block.
func verifyBlock(r objstorage.Readable, kind tableblock.ChecksumType, h tableblock.Handle) error {
	if h.Length > uint64(r.Size()) || h.Offset > uint64(r.Size()) {
		return fmt.Errorf("%w: a block of %d bytes at byte %d: %w", pebble.ErrCorruption, h.Length, h.Offset,
			io.ErrUnexpectedEOF)
	}
	b := make([]byte, h.Length+tableblock.TrailerLen)
	if err := r.ReadAt(context.Background(), b, int64(h.Offset)); err != nil {
		return err
	}
	return tableblock.ValidateChecksum(kind, b, h)
}
