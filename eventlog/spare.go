package eventlog

import (
	"fmt"
	"path/filepath"
	"sync"
)

// fillChunk is how much, in bytes, is filled between two syncs, so that a sync of frames never
// waits behind much of it.
const fillChunk = 1 << 20

// maxRecycled is how many files of truncated segments are kept for later ones.
const maxRecycled = 2

// spare is a file that may become a segment.
type spare struct {
	path     string
	file     File  // open for writing; nil if the file has to be opened
	size     int64 // bytes that are allocated and written
	recycled bool
}

// spares has files ready that were filled before, so that writing frames changes no file's size or
// blocks: only then is a sync of frames one write to the disk. fallocate would not do: a file
// system that journals has to mark each extent written.
//
// Nothing here can fail the log: a spare that could not be made is reported and removed, and the
// log makes its segment in an empty file.
type spares struct {
	log *Log

	mu       sync.Mutex
	quiet    sync.Cond // filling is not being worked on; its L is &mu
	serial   uint64
	recycled []spare
	filling  spare // being filled, in steps; its path is empty if there is none
	size     int64 // that it shall have in the end
	want     int64 // that it shall have by now
	working  bool  // somebody fills it
	closed   bool
}

// prepare asks that a file for the next segment, which shall have the given size in bytes, be
// filled up to want by and by. Asked for a little more as the present segment fills up, the zeros
// never crowd out the frames.
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

// newPath returns a name that no file had since Open. mu is held.
func (s *spares) newPath() string {
	s.serial++
	return filepath.Join(s.log.dir, fmt.Sprintf("%016x%s", s.serial, spareSuffix))
}

var zeros [fillChunk]byte

// fill writes zeros until there are as many as wanted, or until nobody wants the file any more.
func (s *spares) fill(sp spare) {
	var err error
	if sp.file == nil {
		if err = s.log.checkLock(); err == nil {
			sp.file, err = s.log.opts.FS.Create(sp.path)
		}
		if err != nil {
			sp.file = nil // whatever came with the error
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
		// Give the room back: the log may need it. Of this file nothing was promised.
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

// step says how much to fill next.
func (s *spares) step(sp spare) (n int64, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(s.want-sp.size, fillChunk)
	return n, n > 0
}

// stop ends the filling and returns what it made, which is the first chunk at least if any was
// asked for; its file is nil if there is nothing. mu is held, but not while waiting.
func (s *spares) stop() spare {
	s.want = min(s.want, fillChunk)
	for s.working {
		s.quiet.Wait()
	}
	sp := s.filling
	s.filling = spare{}
	return sp
}

// take returns a file for the next segment: a recycled one, or the one that was prepared as far as
// it has come, or an empty one.
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

// keep renames the file of a segment that was truncated and keeps it for later. It returns false if
// there are enough, and leaves the file alone.
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
	// The new name must be durable before anything is written to the file, or a crash could bring
	// the old name back with new content. take may run at any time, so it comes before the file is
	// offered.
	if err := s.log.syncNames(); err != nil {
		return false, s.log.fail(err)
	}

	s.recycled = append(s.recycled, sp)

	return true, nil
}

// close removes what never became a segment. It returns the first error; the files do no harm.
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
