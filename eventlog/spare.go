package eventlog

import (
	"fmt"
	"path/filepath"
	"sync"
)

// fillChunk is how much, in bytes, is filled between two syncs, so that a sync of frames never
// waits for more than that.
const fillChunk = 1 << 20

// maxRecycled is how many files of truncated segments are kept for later segments.
const maxRecycled = 2

// spare is a file that may become a segment.
type spare struct {
	path     string
	file     File  // open for writing; nil if the file is not open
	size     int64 // bytes that are allocated and written
	recycled bool
}

// spares keeps files ready that were filled beforehand, so that writing frames changes no file's
// size or blocks. Only then is a sync of frames one write to the disk. fallocate would not be
// enough, because a journaling file system has to mark each extent as written.
//
// Preparing a file cannot fail the log. A spare that could not be made is reported and removed, and
// the log makes its segment in an empty file.
type spares struct {
	log *Log

	mu       sync.Mutex
	quiet    sync.Cond // signals that working became false; its L is &mu
	serial   uint64
	recycled []spare
	filling  spare // the file that is filled in steps; its path is empty if there is none
	size     int64 // that filling will have in the end
	want     int64 // that filling should have by now
	working  bool  // a goroutine fills it
	closed   bool
}

// prepare asks for a file for the next segment. The file will have the given size in bytes, and is
// to be filled up to want now. prepare is called for a little more as the present segment fills up,
// so the zeros never crowd out the frames.
func (s *spares) prepare(size, want int64) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.closed || len(s.recycled) > 0 {
		return
	}
	if s.filling.path == "" {
		s.filling, s.size, s.want = spare{path: s.newPath()}, 0, 0
	}

	s.size = max(s.size, size)
	s.want = max(s.want, min(want, s.size))
	if !s.working && s.filling.size < s.want {
		s.working = true
		go s.fill(s.filling)
	}
}

// newPath returns a name that no file has had since Open. mu is held.
func (s *spares) newPath() string {
	s.serial++
	return filepath.Join(s.log.dir, fmt.Sprintf("%016x%s", s.serial, spareSuffix))
}

var zeros [fillChunk]byte

// fill writes zeros until there are as many as wanted.
func (s *spares) fill(sp spare) {
	var err error
	if sp.file == nil {
		if err = s.log.checkLock(); err == nil {
			sp.file, err = s.log.opts.FS.Create(sp.path)
		}
		if err != nil {
			sp.file = nil // Create may have returned one with the error
		}
	}

	for more := err == nil; more; {
		var n int64
		if n, more = s.step(sp); !more {
			break
		}
		err = writeSync(sp.file, zeros[:n], sp.size)
		sp.size += n
		more = err == nil
	}

	if err != nil {
		// Give the room back, because the log may need it. Nothing depends on this file.
		if sp.file != nil {
			sp.file.Close()
			s.log.opts.FS.Remove(sp.path)
		}
		sp = spare{}
		s.log.emit(SpareFailed{err})
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	s.filling, s.working = sp, false
	s.quiet.Broadcast()
}

// step returns how much to fill next, and whether to fill any more.
func (s *spares) step(sp spare) (n int64, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(s.want-sp.size, fillChunk)
	return n, n > 0
}

// stop ends the filling and returns the spare that it made. If any filling was asked for, that is
// at least the first chunk. The spare's file is nil if there is none. mu is held, except while
// waiting.
func (s *spares) stop() spare {
	s.want = min(s.want, fillChunk)
	for s.working {
		s.quiet.Wait()
	}
	sp := s.filling
	s.filling = spare{}
	return sp
}

// take returns a file for the next segment: a recycled file, the prepared file as far as it is
// filled, or an empty file.
func (s *spares) take() (spare, error) {
	s.mu.Lock()
	fs := s.log.opts.FS

	if n := len(s.recycled); n > 0 {
		sp := s.recycled[n-1]
		s.recycled = s.recycled[:n-1]
		s.mu.Unlock()
		var err error
		sp.file, err = fs.Open(sp.path, true)
		return sp, err
	}

	sp := s.stop()
	path := s.newPath()
	s.mu.Unlock()

	if sp.file != nil {
		return sp, nil
	}

	file, err := fs.Create(path)
	return spare{path: path, file: file}, err
}

// keep renames the file of a truncated segment and keeps it for a later segment. If the file does
// not fit or there are enough, keep returns false and leaves the file alone.
func (s *spares) keep(path string, size int64) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	want := s.log.opts.SegmentSize
	if s.closed || len(s.recycled) >= maxRecycled || size < want/2 || size > 2*want {
		return false, nil
	}

	sp := spare{path: s.newPath(), size: size, recycled: true}
	if err := s.log.opts.FS.Rename(path, sp.path); err != nil {
		return false, err
	}

	// The new name must be durable before anything is written to the file. Otherwise a crash could
	// bring back the old name with new content. take may run at any time, so this sync comes before
	// the file is offered.
	if err := s.log.syncNames(); err != nil {
		return false, s.log.fail(err)
	}

	s.recycled = append(s.recycled, sp)

	return true, nil
}

// close removes the files that never became a segment. It returns the first error. Files that are
// left do no harm.
func (s *spares) close() error {
	s.mu.Lock()
	s.closed = true
	sp, unused := s.stop(), s.recycled
	s.recycled = nil
	s.mu.Unlock()

	var first error
	if sp.file != nil {
		first = sp.file.Close()
		unused = append(unused, sp)
	}

	for _, sp := range unused {
		if err := s.log.opts.FS.Remove(sp.path); err != nil && first == nil {
			first = err
		}
	}

	return first
}
