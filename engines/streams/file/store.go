package file

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/coppice-go/coppice/engines/streams"
)

// store is the directory of a sink, opened for one writer.
type store struct {
	fs   FS
	root string
	dir  string // root, or the folder of a generation in it
	lock io.Closer

	f  File
	st state // on the disk

	at     int64  // offset of the next byte
	seq    uint64 // of the last line written
	failed error  // a write or sync failed: nothing more is written through this store
}

// openStore locks a directory, which it makes if it is missing.
func openStore(fs FS, dir string) (*store, error) {
	if err := fs.MkdirAll(dir); err != nil {
		return nil, err
	}
	lock, err := fs.Lock(filepath.Join(dir, "LOCK"))
	if err != nil {
		return nil, err
	}
	now, err := current(fs, dir)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &store{fs: fs, root: dir, dir: now, lock: lock}, nil
}

func (s *store) close() error {
	var err error
	if s.f != nil {
		err = s.f.Close()
	}
	return errors.Join(err, s.lock.Close())
}

// recover brings the directory to the last whole unit, and makes that durable.
func (s *store) recover() error {
	if s.dir != s.root { // a swap may have ended before it removed them
		if err := s.removeOld(s.root); err != nil {
			return err
		}
	}
	st, err := scan(s.fs, s.dir)
	if err != nil {
		return err
	}

	numbers, err := files(s.fs, s.dir)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n > st.file {
			if err := s.fs.Remove(fileName(s.dir, n)); err != nil {
				return err
			}
		}
	}

	s.st, s.at, s.seq = st, st.end, st.seq
	if st.file == 0 {
		return s.fs.SyncDir(s.dir)
	}

	if s.f, err = s.fs.Open(fileName(s.dir, st.file), true); err != nil {
		return err
	}
	if err := s.f.Truncate(st.end); err != nil {
		return err
	}
	if err := rewrite(s.f, st.synced, st.end); err != nil {
		return err
	}
	if err := s.f.Sync(); err != nil {
		return err
	}

	return s.fs.SyncDir(s.dir)
}

// rewrite writes the bytes of a file from one offset to another once more.
func rewrite(f File, from, to int64) error {
	buf := make([]byte, min(1<<20, max(to-from, 0)))
	for from < to {
		part := buf[:min(int64(len(buf)), to-from)]
		if _, err := f.ReadAt(part, from); err != nil && err != io.EOF {
			return err
		}
		if _, err := f.WriteAt(part, from); err != nil {
			return err
		}
		from += int64(len(part))
	}
	return nil
}

// begin makes the next file, with a head line, and syncs it.
func (s *store) begin(c streams.Cursor) error {
	n := s.st.file + 1
	f, err := s.fs.Create(fileName(s.dir, n))
	if err != nil {
		return err
	}

	s.seq++
	head := appendMark(nil, mark{Seq: s.seq, Head: n, Epoch: c.Epoch, Cursor: &c})
	_, err = f.WriteAt(head, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = s.fs.SyncDir(s.dir)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}

	if s.f != nil {
		if err := s.f.Close(); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	s.f, s.at = f, int64(len(head))
	s.st = state{cursor: c, file: n, end: s.at, seq: s.seq}

	return nil
}

// claim writes who writes from now on, and syncs it.
func (s *store) claim(o streams.Opening) error {
	c := s.st.cursor
	c.Epoch, c.Definition = o.Epoch, o.Definition
	if s.f == nil {
		return s.begin(c)
	}

	s.seq++
	claim := mark{Seq: s.seq, Claim: o.Holder, Epoch: o.Epoch, Cursor: &streams.Cursor{Definition: o.Definition}}
	if claim.Claim == "" {
		claim.Claim = "unnamed"
	}
	if err := s.write(appendMark(nil, claim)); err != nil {
		return err
	}

	return s.sync(c)
}

// write appends lines.
func (s *store) write(lines []byte) error {
	if s.failed != nil {
		return s.failed
	}
	if _, err := s.f.WriteAt(lines, s.at); err != nil {
		s.failed = err
		return err
	}
	s.at += int64(len(lines))
	return nil
}

// sync makes all lines durable; the sink then stands at c.
func (s *store) sync(c streams.Cursor) error {
	if s.failed != nil {
		return s.failed
	}
	if err := s.f.Sync(); err != nil {
		s.failed = fmt.Errorf("sync of %s: %w", fileName(s.dir, s.st.file), err)
		return s.failed
	}
	name := fileName(s.dir, s.st.file)
	there, err := s.f.Is(name)
	if err == nil && !there {
		err = fmt.Errorf("%s is not the file that is being written: it was removed or replaced", name)
	}
	if err != nil {
		s.failed = err
		return err
	}
	s.st.cursor, s.st.end, s.st.seq = c, s.at, s.seq
	return nil
}
