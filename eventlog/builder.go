package eventlog

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"strings"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// buildingSuffix marks a directory in which a log is being built.
const buildingSuffix = ".building"

// maxGap bounds, in records, the gap that Lost accepts. A gap takes one frame for each 2^32
// records.
const maxGap = 1 << 40

// Builder makes a whole new log from existing records, for a salvage or an import. The new log has
// an identity of its own. It is built in a directory beside its destination and is renamed when it
// is finished, so a crash never leaves a part that looks like the whole. A Builder is for one
// goroutine.
type Builder struct {
	log  *Log
	dest string
	cur  *batch
}

// NewBuilder begins a log that Finish will put in dir. dir must be missing or an empty directory.
// The first record gets Options.FirstIndex.
func NewBuilder(dir string, o Options) (*Builder, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}

	dest := filepath.Clean(dir)
	names, err := o.FS.List(dest)
	if err != nil && !isNotExist(err) {
		return nil, fmt.Errorf("eventlog: %w", err)
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("eventlog: %s is not empty: it holds %s; a new log needs an empty place: %w",
			dest, names[0], fs.ErrExist)
	}

	l := newLog(dest+buildingSuffix, o)
	parents := ancestors(o.FS, l.dir)
	if err := o.FS.MkdirAll(l.dir); err != nil {
		return nil, fmt.Errorf("eventlog: %w", err)
	}
	if l.lock, err = o.FS.Lock(filepath.Join(l.dir, lockName)); err != nil {
		return nil, fmt.Errorf("eventlog: %w", err)
	}
	if err := l.clearBuilding(); err != nil {
		return nil, fmt.Errorf("eventlog: %w", errors.Join(err, l.lock.Close()))
	}

	b := &Builder{log: l, dest: dest}
	if err := l.create(parents); err != nil {
		return nil, errors.Join(err, b.Abort())
	}

	return b, nil
}

// clearBuilding removes what a killed Builder left in the building directory. That Builder no
// longer holds the lock, and what it left never was a log. If the directory has a file with a name
// that no Builder gives, clearBuilding removes nothing and returns an error.
func (l *Log) clearBuilding() error {
	names, err := l.opts.FS.List(l.dir)
	if err != nil {
		return err
	}

	for _, name := range names {
		if name != lockName && name != extentName && !strings.HasSuffix(name, segSuffix) &&
			!strings.HasSuffix(name, spareSuffix) {
			return fmt.Errorf("%s is not empty: it holds %s, which is not part of a log: %w", l.dir, name, fs.ErrExist)
		}
	}

	for _, name := range names {
		if name != lockName {
			if err := l.opts.FS.Remove(filepath.Join(l.dir, name)); err != nil {
				return err
			}
		}
	}

	return nil
}

// Next returns the index that the next record will get.
func (b *Builder) Next() uint64 { return b.log.next }

// ID returns the identity of the new log.
func (b *Builder) ID() [16]byte { return b.log.w.id }

// Append adds records. They share frames with the records before and after them.
func (b *Builder) Append(records ...Record) error {
	for i := range records {
		size := segment.RecordSize(len(records[i].Data))
		if size > b.log.opts.MaxRecord {
			return fmt.Errorf("%w: record %d has %d bytes, at most %d", ErrTooLarge, b.log.next, size,
				b.log.opts.MaxRecord)
		}

		if b.cur != nil && int64(len(b.cur.buf))+size > b.log.opts.MaxBatch {
			if err := b.flush(); err != nil {
				return err
			}
		}

		if b.cur == nil {
			b.cur = newBatch(b.log.w.buf)
			b.cur.first = b.log.next
		}

		b.cur.buf = segment.AppendRecord(b.cur.buf, uint8(records[i].Kind), records[i].Data)
		b.cur.count++
		b.log.next++
	}
	return nil
}

// Lost records a gap in place of the next n records. If n is 0, it records that an unknown number
// of records is lost here.
func (b *Builder) Lost(n uint64, reason string) error {
	if n > maxGap {
		return fmt.Errorf("eventlog: a gap of %d records, want at most %d", n, uint64(maxGap))
	}
	if err := b.flush(); err != nil {
		return err
	}

	for {
		part := uint32(min(n, math.MaxUint32))
		if err := b.frame(part, segment.FlagGap, []byte(reason)); err != nil {
			return err
		}
		if n -= uint64(part); n == 0 {
			return nil
		}
	}
}

// frame adds one frame with exactly this payload.
func (b *Builder) frame(count uint32, flags segment.Flags, payload []byte) error {
	if err := b.flush(); err != nil {
		return err
	}

	b.cur = newBatch(b.log.w.buf)
	b.cur.buf = append(b.cur.buf, payload...)
	b.cur.first, b.cur.count, b.cur.flags = b.log.next, count, flags
	b.log.next += uint64(count)

	return b.flush()
}

func (b *Builder) flush() error {
	if b.cur == nil {
		return nil
	}
	err := b.log.commit(b.cur)
	b.log.recycleBuffer(b.cur)
	b.cur = nil
	return err
}

// Finish makes the log durable, seals it and renames it to its destination. After an error the log
// is not there, or its name may not outlive a crash.
func (b *Builder) Finish() error {
	fsys := b.log.opts.FS

	err := b.flush()
	if err == nil {
		err = b.log.seal()
	}
	if err == nil {
		err = b.log.changeExtent(ended(b.log.w.prev, b.log.w.next))
	}
	if err == nil {
		err = b.log.spares.close()
	}
	if err == nil {
		err = b.log.syncNames()
	}
	if err == nil {
		if _, lerr := fsys.List(b.dest); lerr == nil {
			err = fsys.Remove(b.dest) // NewBuilder found it empty; Remove fails if it no longer is
		}
	}
	if err == nil {
		err = fsys.Rename(b.log.dir, b.dest)
	}
	if err != nil {
		return errors.Join(err, b.Abort())
	}

	return b.log.release(fsys.SyncDir(filepath.Dir(b.dest)))
}

// Abort removes what was built. It may be called after an error of another method.
func (b *Builder) Abort() error {
	if b.log.closed.Load() {
		return nil
	}

	err := b.log.release(nil)
	fsys := b.log.opts.FS
	names, lerr := fsys.List(b.log.dir)
	if isNotExist(lerr) {
		return err
	}

	err = errors.Join(err, lerr)
	for _, name := range names {
		err = errors.Join(err, fsys.Remove(filepath.Join(b.log.dir, name)))
	}

	return errors.Join(err, fsys.Remove(b.log.dir))
}
