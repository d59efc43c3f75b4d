package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/coppice-go/coppice/engines/streams"
)

const (
	// currentFile names the folder of the generation that counts. Without it the files of the
	// sink's own folder count.
	currentFile = "CURRENT"

	generationPrefix = "generation-"
)

// current returns the folder whose files count.
func current(fsys FS, dir string) (string, error) {
	f, err := fsys.Open(filepath.Join(dir, currentFile), false)
	if errors.Is(err, fs.ErrNotExist) {
		return dir, nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()

	size, err := f.Size()
	if err != nil {
		return "", err
	}
	b := make([]byte, min(size, 200))
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return "", err
	}
	name, ok := strings.CutSuffix(string(b), "\n")
	if !ok || !strings.HasPrefix(name, generationPrefix) || name != filepath.Base(name) {
		return "", fmt.Errorf("%w: %s has %.80q, want the name of a folder", errLine, currentFile, b)
	}

	return filepath.Join(dir, name), nil
}

func (s *store) generationDir(id string) string { return filepath.Join(s.root, generationPrefix+id) }

// Bootstrap makes the folder of a generation, or looks which chunks it has.
func (s *sink) Bootstrap(_ context.Context, generation string) (done map[int]bool, swapped bool, err error) {
	err = s.do(func(st *store) error {
		dir := st.generationDir(generation)
		s.generation = dir
		if swapped = st.dir == dir; swapped {
			return nil
		}
		if err := st.sweep(generationPrefix + generation); err != nil {
			return err
		}
		if err := errors.Join(s.fs.MkdirAll(dir), s.fs.SyncDir(st.root)); err != nil {
			return err
		}

		numbers, err := files(s.fs, dir)
		done = make(map[int]bool)
		for _, n := range numbers {
			done[int(n)-1] = true
		}
		return err
	})
	return done, swapped, err
}

// sweep removes all generations but the one that counts and the named one.
func (s *store) sweep(keep string) error {
	names, err := s.fs.List(s.root)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, generationPrefix) && name != keep && name != filepath.Base(s.dir) {
			if err := s.removeAll(filepath.Join(s.root, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeAll removes a folder and its files.
func (s *store) removeAll(dir string) error {
	names, err := s.fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.fs.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return s.fs.Remove(dir)
}

// Chunk writes a file of its own, which gets its name once it is durable.
func (s *sink) Chunk(ctx context.Context, c streams.Chunk, d streams.Delivery) error {
	name := fileName(s.generation, uint64(c.Number)+1)
	w := &chunkWriter{sink: s, name: strings.TrimSuffix(name, suffix) + ".tmp"}
	err := s.do(func(*store) error { return w.begin(c) })
	if err != nil {
		return err
	}
	defer func() {
		if w.f != nil {
			w.f.Close()
		}
	}()

	for {
		e, err := d.Next(ctx)
		if err == io.EOF {
			return s.do(func(*store) error { return w.finish(name) })
		}
		if err != nil {
			return err
		}

		w.seq++
		w.buf = appendEvent(w.buf, w.seq, e, 0)
		d.Credit(e.Size())
		if len(w.buf) >= flushAt {
			if err := s.do(func(*store) error { return w.flush() }); err != nil {
				return err
			}
		}
	}
}

// chunkWriter writes the file of a chunk.
type chunkWriter struct {
	*sink
	name string // until the file is whole
	f    File
	at   int64
	seq  uint64
	buf  []byte
}

func (w *chunkWriter) begin(c streams.Chunk) (err error) {
	if err := w.fs.Remove(w.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if w.f, err = w.fs.Create(w.name); err != nil {
		return err
	}

	w.seq = c.Before + uint64(c.Number) + 1 // each file before has a head line too
	n := uint64(c.Number) + 1
	w.buf = appendMark(nil, mark{Seq: w.seq, Head: n, Whole: true, Epoch: w.opening.Epoch,
		Cursor: &streams.Cursor{Definition: w.opening.Definition}})
	return nil
}

func (w *chunkWriter) flush() error {
	_, err := w.f.WriteAt(w.buf, w.at)
	w.at += int64(len(w.buf))
	w.buf = w.buf[:0]
	return err
}

func (w *chunkWriter) finish(name string) error {
	err := w.flush()
	if err == nil {
		err = w.f.Sync()
	}
	err = errors.Join(err, w.f.Close())
	w.f = nil
	if err == nil {
		err = w.fs.Rename(w.name, name)
	}
	if err != nil {
		return err
	}
	return w.fs.SyncDir(filepath.Dir(name))
}

// Swap closes the generation with a file that has only its End, and makes it the one that counts.
func (s *sink) Swap(_ context.Context, c streams.Chunk, end streams.Event) (streams.Cursor, error) {
	err := s.do(func(st *store) error {
		if err := st.swap(s.generation, c, end, s.opening); err != nil {
			st.failed = err
			return err
		}
		s.cursor = st.st.cursor
		return nil
	})
	return s.cursor, err
}

func (s *store) swap(dir string, c streams.Chunk, end streams.Event, o streams.Opening) error {
	n := uint64(c.Number) + 1
	seq := c.Before + n
	head := appendMark(nil, mark{Seq: seq, Head: n, Epoch: o.Epoch,
		Cursor: &streams.Cursor{Definition: o.Definition}})
	if err := s.writeFile(fileName(dir, n), appendEvent(head, seq+1, end, 0)); err != nil {
		return err
	}
	old := s.dir
	if err := s.writeFile(filepath.Join(s.root, currentFile), []byte(filepath.Base(dir)+"\n")); err != nil {
		return err
	}

	if s.f != nil {
		if err := s.f.Close(); err != nil {
			return err
		}
		s.f = nil
	}
	s.dir = dir
	if err := s.recover(); err != nil {
		return err
	}

	return s.removeOld(old)
}

// writeFile makes a file whole, or leaves the old one.
func (s *store) writeFile(name string, content []byte) error {
	tmp := name + ".tmp"
	if err := s.fs.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := s.fs.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = s.fs.Rename(tmp, name)
	}
	if err != nil {
		return err
	}
	return s.fs.SyncDir(filepath.Dir(name))
}

// removeOld removes the files of a generation that counts no more.
func (s *store) removeOld(dir string) error {
	if dir != s.root {
		return s.removeAll(dir)
	}
	numbers, err := files(s.fs, dir)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if err := s.fs.Remove(fileName(dir, n)); err != nil {
			return err
		}
	}
	return nil
}
