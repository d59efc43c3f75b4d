package eventlog

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// extentName is the file that says which segments the log has. The chain of seals proves only the
// segments in between. Without this file nobody would notice that the newest segment, the oldest or
// all of them are gone.
const extentName = "EXTENT"

// extent is the log's record of its segments. It is updated at each roll, after the new segment's
// name is durable and before it has a frame; before anything is truncated; and when the last
// segment is sealed for good. It is overwritten in place, one slot at a time, so an update costs
// one write and one sync and needs no room on the disk.
type extent struct {
	mu   sync.Mutex // held during the write: a roll and a truncation take turns
	cur  segment.Extent
	file File // nil if the log is read-only, or has no extent yet
}

// changeExtent applies change to the extent and makes it durable. An error fails the log, because
// the file may then hold something else.
func (l *Log) changeExtent(change func(*segment.Extent)) error {
	x := &l.extent
	x.mu.Lock()
	defer x.mu.Unlock()

	if x.file == nil {
		return ErrClosed // the log was closed meanwhile
	}

	next := x.cur
	change(&next)
	if next == x.cur {
		return nil
	}

	next.Serial++
	if err := x.write(next); err != nil {
		return l.fail(err)
	}

	x.cur = next
	return nil
}

func (x *extent) write(e segment.Extent) error {
	return writeSync(x.file, e.Append(nil), segment.ExtentOffset(e.Serial))
}

func (x *extent) close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.file == nil {
		return nil
	}
	err := x.file.Close()
	x.file = nil
	return err
}

// createExtent makes the extent of a log that has none yet. The log's first segment is durable and
// has no records.
func (l *Log) createExtent(e segment.Extent) error {
	path := filepath.Join(l.dir, extentName)
	tmp := path + spareSuffix // Open removes a leftover
	f, err := l.opts.FS.Create(tmp)
	if err != nil {
		return err
	}

	e.Serial = 1
	l.extent.file, l.extent.cur = f, e

	return l.publish(f, e.AppendFile(nil), tmp, path)
}

// adoptExtent takes over the extent that was read. If the previous process died of a failed sync,
// what was read may never have reached the disk. Therefore the same bytes are written again at the
// same place before anything relies on them. The other slot, which did reach the disk, stays until
// then.
func (l *Log) adoptExtent(e segment.Extent) error {
	f, err := l.opts.FS.Open(filepath.Join(l.dir, extentName), true)
	if err != nil {
		return err
	}

	l.extent.file, l.extent.cur = f, e
	if l.opts.bugs.trustExtent {
		return nil
	}

	return l.extent.write(e)
}

// reached returns the change that enters segment h, which was just begun, into the extent.
func reached(h segment.Header) func(*segment.Extent) {
	return func(e *segment.Extent) {
		e.Last, e.Next, e.Sealed, e.Seal = h.Number, h.FirstIndex, false, segment.Seal{}
	}
}

// ended returns the change that enters the seal of the last segment into the extent, when no other
// segment was begun.
func ended(last position, next uint64) func(*segment.Extent) {
	return func(e *segment.Extent) { e.Last, e.Next, e.Sealed, e.Seal = last.number, next, true, last.seal }
}

// readExtent reads the extent, if there is one.
func (in *inspection) readExtent() error {
	path := filepath.Join(in.dir, extentName)
	f, err := in.fs.Open(path, false)
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()

	buf, err := readUpTo(f, segment.ExtentFileSize, 0)
	if err != nil {
		return fmt.Errorf("eventlog: reading %s: %w", path, err)
	}

	e, err := segment.DecodeExtent(buf)
	switch {
	case errors.Is(err, segment.ErrVersion):
		return fmt.Errorf("%w: %s: %v", ErrVersion, path, err)
	case err != nil:
		in.extentDamage = &CorruptError{File: path, Reason: err.Error() + "; this file lists the segments of the log"}
	default:
		in.extent = &e
	}

	return nil
}

// dropTruncated moves segments that the extent says were truncated from segs to leftovers. A crash
// brought their files back, or kept them. A file counts as such a segment only if its header says
// so.
func (in *inspection) dropTruncated() {
	if in.extent == nil {
		return
	}
	for len(in.segs) > 0 {
		s := in.segs[0]
		if s.number >= in.extent.First || s.damage != nil || s.header.ID != in.extent.ID {
			return
		}
		in.leftovers = append(in.leftovers, s.path)
		in.segs = in.segs[1:]
	}
}

// judgeExtent compares the segments found with the extent. It runs after each segment was judged by
// itself.
func (in *inspection) judgeExtent() {
	path := filepath.Join(in.dir, extentName)
	if in.extentDamage != nil {
		return
	}

	if in.extent == nil {
		// The extent is made right after the first segment, before that has records.
		if n := len(in.segs); n > 1 || n == 1 && (in.segs[0].number != 1 || in.segs[0].scan.frames > 0 ||
			in.segs[0].damage != nil) {
			in.extentDamage = &CorruptError{File: path,
				Reason: fmt.Sprintf("file is missing, but %s exists; this file lists the segments of the log",
					filepath.Base(in.segs[0].path))}
		}
		return
	}

	e := *in.extent
	missing := func(number uint64, says string) {
		in.extentDamage = &CorruptError{File: segPath(in.dir, number), Reason: "segment is missing; " + says}
	}

	if len(in.segs) == 0 {
		missing(e.Last, fmt.Sprintf("%s says that the log goes from segment %x to this one, but there is none",
			extentName, e.First))
		return
	}

	for _, s := range in.segs {
		if s.damage == nil && s.header.ID != e.ID {
			s.damage = &CorruptError{File: s.path, Reason: fmt.Sprintf("segment belongs to log %x, want %x as in %s",
				s.header.ID, e.ID, extentName)}
		}
	}

	first, last := in.segs[0], in.segs[len(in.segs)-1]
	switch {
	case first.number < e.First && first.damage == nil:
		first.damage = &CorruptError{File: first.path,
			Reason: fmt.Sprintf("%s says that the log begins with segment %x", extentName, e.First)}

	case first.number == e.First && first.damage == nil && first.header.FirstIndex != e.FirstIndex:
		first.damage = &CorruptError{File: first.path, Reason: fmt.Sprintf("segment begins at record %d, %s says %d",
			first.header.FirstIndex, extentName, e.FirstIndex)}

	case first.number > e.First:
		missing(e.First, fmt.Sprintf("%s says that the log begins with it, at record %d", extentName, e.FirstIndex))

	case e.Last > last.number:
		missing(e.Last, fmt.Sprintf("%s says that the log reached it and has records up to at least %d",
			extentName, e.Next-1))

	case e.Sealed && e.Last == last.number && last.damage == nil && (!last.scan.sealed || last.scan.seal != e.Seal):
		last.damage = &CorruptError{File: last.path, Offset: last.scan.end, Index: last.scan.next,
			Reason: fmt.Sprintf("no seal where the frames end; %s says that there is one at offset %d with "+
				"checksum %08x", extentName, e.Seal.Offset, e.Seal.CRC)}
	}
}
