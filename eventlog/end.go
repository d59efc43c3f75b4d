package eventlog

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// endName is the file that says how far the log had come when it was last sealed for good. Without it nothing
// would follow the last segment that could tell that its end, or all of it, is missing.
const endName = "END"

// readEnd reads the end mark, if there is one.
func (in *inspection) readEnd() error {
	path := filepath.Join(in.dir, endName)
	f, err := in.fs.Open(path, false)
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, segment.EndSize+1)
	n, err := f.ReadAt(buf, 0)
	if err != nil && err != io.EOF {
		return fmt.Errorf("eventlog: reading %s: %w", path, err)
	}
	end, err := segment.DecodeEnd(buf[:n])
	switch {
	case errors.Is(err, segment.ErrVersion):
		return fmt.Errorf("%w: %s: %v", ErrVersion, path, err)
	case err != nil:
		in.endDamage = &CorruptError{File: path, Reason: fmt.Sprintf("%v; without this file the log opens, and the end of its last segment is not checked", err)}
	default:
		in.end = &end
	}
	return nil
}

// judgeEnd compares what was found with the end mark. It runs after each segment was judged by itself.
func (in *inspection) judgeEnd() {
	if in.end == nil || len(in.segs) == 0 {
		return
	}
	end, first, last := *in.end, in.segs[0], in.segs[len(in.segs)-1]
	path := filepath.Join(in.dir, endName)
	switch {
	case first.damage == nil && end.ID != first.header.ID:
		in.endDamage = &CorruptError{File: path, Reason: fmt.Sprintf("end mark belongs to log %x, want %x", end.ID, first.header.ID)}
	case end.Number > last.number:
		in.endDamage = &CorruptError{File: segPath(in.dir, end.Number), Reason: fmt.Sprintf("segment is missing; %s says that the log ends with it, before record %d", endName, end.Next)}
	case end.Number == last.number && last.damage == nil && (!last.scan.sealed || last.scan.seal != end.Seal):
		last.damage = &CorruptError{File: last.path, Offset: last.scan.end, Index: last.scan.next,
			Reason: fmt.Sprintf("no seal where the frames end; %s says that there is one at offset %d with checksum %08x", endName, end.Seal.Offset, end.Seal.CRC)}
	}
}

// markEnd writes the end mark after the last segment was sealed. An older mark is as true, so a failure here is told
// and no more; the log itself is whole.
func (l *Log) markEnd() {
	err := l.writeEnd(segment.End{ID: l.w.id, Number: l.w.prev.number, Seal: l.w.prev.seal, Next: l.w.next})
	if err != nil {
		l.emit(EndUnmarked{err})
	}
}

func (l *Log) writeEnd(e segment.End) error {
	path := filepath.Join(l.dir, endName)
	tmp := path + spareSuffix // Open removes it if it is left over
	f, err := l.opts.FS.Create(tmp)
	if err != nil {
		return err
	}
	err = writeAt(f, e.Append(nil), 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := l.opts.FS.Rename(tmp, path); err != nil {
		return err
	}
	return l.syncNames()
}
