package eventlog

import (
	"fmt"
	"path/filepath"
	"sync"
)

// fillChunk is how much, in bytes, is filled between two syncs, so that a sync of frames never waits behind much of it.
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

// spares has files ready that were filled before, so that writing frames changes no file's size or blocks: only then is a sync
// of frames one write to the disk. fallocate would not do: a file system that journals has to mark each extent written.
//
// Nothing here can fail the log: a spare that could not be made is reported and removed, and the log makes
// its segment in an empty file.
type spares struct {
	log *Log

	mu       sync.Mutex
	serial   uint64
	recycled []spare
	filling  *filling // the one that is being or was prepared; nil if none
	closed   bool
}

type filling struct {
	stop  chan struct{}
	done  chan struct{}
	spare spare // valid after done; its file is nil if it failed
}

// prepare begins to fill a file of the given size, unless one is there or under way.
func (s *spares) prepare(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.filling != nil || len(s.recycled) > 0 {
		return
	}
	f := &filling{stop: make(chan struct{}), done: make(chan struct{})}
	path := s.newPath()
	s.filling = f
	go func() {
		defer close(f.done)
		f.spare = s.fill(path, size, f.stop)
	}()
}

// newPath returns a name that no file had since Open. mu is held.
func (s *spares) newPath() string {
	s.serial++
	return filepath.Join(s.log.dir, fmt.Sprintf("%016x%s", s.serial, spareSuffix))
}

var zeros [fillChunk]byte

// fill makes a file of zeros, or of as many as it gets to before stop, but of one chunk at least.
func (s *spares) fill(path string, size int64, stop <-chan struct{}) spare {
	fs := s.log.opts.FS
	file, err := fs.Create(path)
	if err != nil {
		s.log.emit(SpareFailed{err})
		return spare{}
	}
	sp := spare{path: path, file: file}
	for sp.size < size {
		n := min(size-sp.size, fillChunk)
		err := writeAt(file, zeros[:n], sp.size)
		if err == nil {
			err = file.Sync()
		}
		if err != nil {
			// Give the room back: the log may need it. Of this file nothing was promised.
			file.Close()
			fs.Remove(path)
			s.log.emit(SpareFailed{err})
			return spare{}
		}
		sp.size += n
		select {
		case <-stop:
			return sp
		default:
		}
	}
	return sp
}

// take returns a file for the next segment: a recycled one, or the one that was prepared as far as it has come, or an empty one.
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
	f := s.filling
	s.filling = nil
	path := s.newPath()
	s.mu.Unlock()
	if f != nil {
		sp := f.result()
		if sp.file != nil {
			return sp, nil
		}
	}
	file, err := fs.Create(path)
	return spare{path: path, file: file}, err
}

// result stops the filling and returns what it made.
func (f *filling) result() spare {
	close(f.stop)
	<-f.done
	return f.spare
}

// keep renames the file of a segment that was truncated and keeps it for later. It returns false if there are
// enough, and leaves the file alone.
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
	// The new name must be durable before anything is written to the file, or a crash could bring the old name back
	// with new content. take may run at any time, so it comes before the file is offered.
	if err := s.log.syncNames(); err != nil {
		return false, s.log.fail(err)
	}
	s.recycled = append(s.recycled, sp)
	return true, nil
}

// close removes what never became a segment. It returns the first error; the files do no harm.
func (s *spares) close() error {
	s.mu.Lock()
	f, recycled := s.filling, s.recycled
	s.filling, s.recycled, s.closed = nil, nil, true
	s.mu.Unlock()
	var first error
	if f != nil {
		if sp := f.result(); sp.file != nil {
			first = sp.file.Close()
			recycled = append(recycled, sp)
		}
	}
	for _, sp := range recycled {
		if err := s.log.opts.FS.Remove(sp.path); err != nil && first == nil {
			first = err
		}
	}
	return first
}
