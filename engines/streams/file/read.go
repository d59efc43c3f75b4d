package file

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/coppice-go/coppice/engines/streams"
)

// Read reads the lines of all files up to the last whole unit. A line whose checksum is wrong, and
// that is an event nevertheless, is passed on, so that verify can name it. Of other lines the first
// one with a wrong checksum is named by an ErrDamaged in the end.
func (s *sink) Read(ctx context.Context, from, to streams.Position, f func(streams.Event) error) error {
	dir, err := current(s.fs, s.dir)
	if err != nil {
		return s.fail(err)
	}
	numbers, err := files(s.fs, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return s.fail(err)
	}

	var damage error
	for _, n := range numbers {
		err := s.readFile(ctx, fileName(dir, n), from, to, f)
		if err != nil && !errors.Is(err, streams.ErrDamaged) {
			return err
		}
		damage = cmp.Or(damage, err)
	}

	return damage
}

func (s *sink) readFile(ctx context.Context, name string, from, to streams.Position,
	f func(streams.Event) error) (damage error) {
	file, err := s.fs.Open(name, false)
	if err != nil {
		return s.fail(err)
	}
	defer file.Close()

	size, err := lastEnd(file)
	if err != nil {
		return s.fail(err)
	}

	r := newLineReader(file, size)
	for {
		line, at, err := r.next()
		switch {
		case at >= size:
			return damage
		case errors.Is(err, errLine):
			continue
		case err != nil:
			return s.fail(err)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !isEvent(line):
			if err := check(line); err != nil && damage == nil {
				damage = fmt.Errorf("%w: %s at offset %d: %w", streams.ErrDamaged, name, at, err)
			}
			continue
		}

		e, err := streams.ParseJSON(line)
		if err != nil {
			continue // damage: verify finds the event missing
		}
		if e.Position.Compare(from) < 0 || e.Position.Compare(to) > 0 {
			continue
		}
		if err := f(e); err != nil {
			return err
		}
	}
}

// lastEnd returns the offset after the last whole unit of a file, whatever is damaged before it. A
// file of a bootstrap counts as a whole.
func lastEnd(f File) (end int64, err error) {
	size, err := f.Size()
	if err != nil {
		return 0, err
	}

	r := newLineReader(f, size)
	for {
		line, at, err := r.next()
		var m mark
		switch {
		case err == io.EOF:
			return end, nil
		case err == nil && at == 0 && !isEvent(line) && json.Unmarshal(line, &m) == nil && m.Whole:
			return size, nil
		case err == nil && isEnd(line) && check(line) == nil:
			end = r.at
		case err != nil && !errors.Is(err, errLine):
			return 0, err
		}
	}
}

// Rewind removes the units after a position, all of them if to is nil.
func (s *sink) Rewind(_ context.Context, to *streams.Position) (streams.Cursor, error) {
	err := s.do(func(st *store) error {
		if err := st.rewind(to); err != nil {
			st.failed = err
			return err
		}
		err := st.claim(s.opening)
		s.cursor = st.st.cursor
		return err
	})
	return s.cursor, err
}

// errHeld means that the sink does not hold the unit to which it is to rewind.
var errHeld = errors.New("the sink does not hold this unit")

// rewind cuts the files after the End of a unit. It removes files from the newest on, so that a
// crash leaves a shorter sink and never one with a hole.
func (s *store) rewind(to *streams.Position) error {
	numbers, err := files(s.fs, s.dir)
	if err != nil {
		return err
	}

	keep, found := state{}, to == nil
	for _, n := range numbers {
		f, err := s.fs.Open(fileName(s.dir, n), false)
		if err != nil {
			return err
		}
		st := state{}
		_, err = scanFile(f, n, func(line []byte, at int64) error {
			if err := st.take(line, n, at+int64(len(line))+1); err != nil {
				return err
			}
			if to == nil && keep.file == 0 && st.file != 0 || to != nil && isEnd(line) && st.cursor.Position == *to {
				keep, found = st, true
			}
			return nil
		})
		f.Close()
		if err != nil {
			return err
		}
	}
	if !found || keep.file == 0 {
		return fmt.Errorf("%w: %v", errHeld, to)
	}

	if err := s.f.Close(); err != nil {
		return err
	}
	s.f = nil
	for _, n := range slices.Backward(numbers) {
		if n > keep.file {
			if err := s.fs.Remove(fileName(s.dir, n)); err != nil {
				return err
			}
		}
	}
	if s.f, err = s.fs.Open(fileName(s.dir, keep.file), true); err != nil {
		return err
	}
	if err := s.f.Truncate(keep.end); err != nil {
		return err
	}

	epoch := s.st.cursor.Epoch
	s.st, s.at, s.seq = keep, keep.end, keep.seq
	s.st.cursor.Epoch = epoch

	return errors.Join(s.f.Sync(), s.fs.SyncDir(s.dir))
}
