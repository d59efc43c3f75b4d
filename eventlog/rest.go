package eventlog

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// Checked remembers which segments of one log were read whole and found good. The zero value knows
// none. It is safe for concurrent use.
type Checked struct {
	mu   sync.Mutex
	good map[segment.Seed]segment.Seal // by the segment, the seal up to which it was read
}

func (c *Checked) has(s segment.Seed, seal segment.Seal) bool {
	if c == nil {
		return false
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	was, known := c.good[s]
	return known && was == seal
}

func (c *Checked) add(s segment.Seed, seal segment.Seal) {
	if c == nil {
		return
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.good == nil {
		c.good = make(map[segment.Seed]segment.Seal)
	}
	c.good[s] = seal
}

// CheckRest checks every frame of the segments that Open has trusted because of Options.QuickOpen,
// the newest segment first. It returns the first damage that it finds as a *CorruptError, ctx's
// cause if ctx ends, or an error of the file system. It rests as long as it works, so it takes at
// most half of one core, and it may run beside everything else. Segments that are truncated
// meanwhile are left out.
func (l *Log) CheckRest(ctx context.Context) error {
	segs := l.snapshot()

	for i := len(segs) - 2; i >= 0; i-- {
		if !segs[i].trusted.Load() {
			continue
		}

		begun := time.Now()
		if err := l.checkSegment(ctx, segs[i], segs[i+1].first); err != nil {
			return err
		}

		rest := time.NewTimer(time.Since(begun))
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
			return context.Cause(ctx)
		}
	}

	return nil
}

// checkSegment checks the frames of a sealed segment. next is the first index of the segment after
// it.
func (l *Log) checkSegment(ctx context.Context, s *seg, next uint64) error {
	f, err := l.hold(s)
	if f == nil {
		return err
	}
	defer l.releaseSegment(s)

	end := s.end.Load()
	at, err := readUpTo(f, segment.FrameHeaderSize, end)
	if err != nil {
		return fmt.Errorf("eventlog: reading %s: %w", s.path, err)
	}
	seal, _, err := segment.Decode(at, s.seed, end)
	if err != nil {
		return &CorruptError{File: s.path, Offset: end, Index: next, Reason: err.Error()}
	}
	sealed := segment.Seal{Offset: uint64(end), CRC: seal.CRC}

	if !l.opts.Checked.has(s.seed, sealed) {
		found, err := scanFrames(stoppable{f, ctx}, segment.Header{FirstIndex: s.first}, s.seed,
			end+segment.FrameHeaderSize)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("eventlog: reading %s: %w", s.path, err)
		case !found.sealed || found.seal != sealed || found.next != next:
			bad := found.bad
			if bad == nil {
				bad = fmt.Errorf("the frames end there, want %d", end)
			}
			return &CorruptError{File: s.path, Offset: found.end, Index: found.next, Reason: bad.Error()}
		}

		s.mu.Lock()
		s.waypoints = found.waypoints
		s.mu.Unlock()
		l.opts.Checked.add(s.seed, sealed)
	}

	s.trusted.Store(false)

	return nil
}

// hold opens segment s until releaseSegment. The File is nil if s was truncated meanwhile.
func (l *Log) hold(s *seg) (File, error) {
	l.segMu.Lock()
	defer l.segMu.Unlock()

	if s.number < l.segs[0].number {
		return nil, nil
	}
	return l.use(s)
}

// stoppable is a file whose reads fail once ctx has ended.
type stoppable struct {
	File
	ctx context.Context // of the check
}

// ReadAt implements io.ReaderAt.
func (s stoppable) ReadAt(b []byte, off int64) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	return s.File.ReadAt(b, off)
}
