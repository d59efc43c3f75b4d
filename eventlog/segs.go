package eventlog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/coppice-go/coppice/eventlog/segment"
)

const (
	segSuffix   = ".seg"
	spareSuffix = ".spare"
	lockName    = "LOCK"

	// waypointEvery is the least distance, in bytes, between two places in a segment's sparse
	// index.
	waypointEvery = 32 << 10
)

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// segPath returns the path of the segment file with a number.
func segPath(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", number, segSuffix))
}

// parseSegName returns the number in the base name of a segment file, and whether it is such a
// name.
func parseSegName(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, segSuffix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 16, 64)
	return n, err == nil && n > 0 && hex == strings.ToLower(hex)
}

// isSpareName reports whether a base name is that of a file that the log prepared and has not used.
func isSpareName(name string) bool {
	name, ok := strings.CutSuffix(name, spareSuffix)
	_, numbered := parseSegName(name + segSuffix)
	return ok && (numbered || name == extentName)
}

// seg is a segment as readers see it.
type seg struct {
	number uint64
	first  uint64 // index of the first record; the next segment's first if there is none
	path   string
	seed   segment.Seed

	end    atomic.Int64  // frames before this offset are durable and may be read; the seal's offset once sealed
	next   atomic.Uint64 // index after the last durable record
	sealed atomic.Bool   // set after the final end

	// trusted is set if nobody has checked the frames of this sealed segment in this process.
	// Readers check each frame that they read in any case.
	trusted atomic.Bool

	// Under Log.segMu. All cursors on a segment share one open file.
	readers int
	file    File // nil if there are no readers

	mu        sync.Mutex
	waypoints []waypoint // sparse index, ascending
}

// waypoint is a place in a segment where a frame begins.
type waypoint struct {
	first  uint64
	offset int64
}

// noteFrame notes that a frame begins at offset, if the last waypoint lies far enough behind.
func (s *seg) noteFrame(first uint64, offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waypoints = addWaypoint(s.waypoints, first, offset)
}

// addWaypoint appends a place to a sparse index, unless it is too close to the last one.
func addWaypoint(w []waypoint, first uint64, offset int64) []waypoint {
	if n := len(w); n > 0 && offset-w[n-1].offset < waypointEvery {
		return w
	}
	return append(w, waypoint{first, offset})
}

// near returns the last known place at or before the record with this index.
func (s *seg) near(index uint64) waypoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := sort.Search(len(s.waypoints), func(i int) bool { return s.waypoints[i].first > index })
	if i == 0 {
		return waypoint{s.first, segment.HeaderSize}
	}
	return s.waypoints[i-1]
}

// acquire opens the segment that holds index, or will hold it. If after is set, it opens the
// segment numbered after that one instead. The caller releases it by releaseSegment. A nil seg
// without an error means that there is no such segment yet.
func (l *Log) acquire(index uint64, after *seg) (*seg, File, error) {
	l.segMu.Lock()

	var s *seg
	if after != nil {
		// Numbers are contiguous, so the number gives the position in segs.
		if oldest := l.segs[0].number; after.number+1 < oldest {
			l.segMu.Unlock()
			return nil, nil, fmt.Errorf("%w: %d, the first kept is %d", ErrTruncated, index, l.First())
		} else if at := after.number + 1 - oldest; at < uint64(len(l.segs)) {
			s = l.segs[at]
		}
	} else {
		i := sort.Search(len(l.segs), func(i int) bool { return l.segs[i].first > index })
		if i == 0 {
			l.segMu.Unlock()
			return nil, nil, fmt.Errorf("%w: %d, the first kept is %d", ErrTruncated, index, l.First())
		}
		s = l.segs[i-1]
	}

	if s == nil {
		l.segMu.Unlock()
		return nil, nil, nil
	}
	defer l.segMu.Unlock()

	f, err := l.use(s)
	if err != nil {
		return nil, nil, err
	}
	return s, f, nil
}

// use begins a use of segment s, which releaseSegment ends. segMu is held.
func (l *Log) use(s *seg) (File, error) {
	if s.file == nil {
		f, err := l.opts.FS.Open(s.path, false)
		if err != nil {
			return nil, err
		}
		s.file = f
	}

	s.readers++ // keeps Truncate from recycling the file

	return s.file, nil
}

// releaseSegment ends a use of a segment.
func (l *Log) releaseSegment(s *seg) {
	l.segMu.Lock()
	defer l.segMu.Unlock()
	if s.readers--; s.readers == 0 {
		s.file.Close() // nothing was written
		s.file = nil
	}
}

// snapshot returns the present segments. The slice is immutable.
func (l *Log) snapshot() []*seg {
	l.segMu.RLock()
	defer l.segMu.RUnlock()
	return l.segs
}

// addSegment makes a new segment known to readers.
func (l *Log) addSegment(s *seg) {
	l.segMu.Lock()
	defer l.segMu.Unlock()
	l.segs = append(slices.Clone(l.segs), s)
}
