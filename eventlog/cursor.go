package eventlog

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// Cursor reads a log in order. It is for one goroutine at a time.
type Cursor struct {
	log  *Log
	from uint64 // records before it are skipped
	want uint64 // index that the next frame must begin with
	seg  *seg   // nil before the first read
	r    frameReader
	way  int64 // where the last waypoint lies that this cursor has come by

	rest  []byte // records of the present frame that are still to be returned
	left  uint32
	index uint64 // of the first in rest
	err   error  // sticky

	sections int64       // size of a frame above which it is not read into memory; 0: none is
	big      *largeFrame // the present frame, if it is such a one
}

// Cursor returns a reader that begins at index from, which may lie ahead of the log. A from before
// First is ErrTruncated. A cursor does not hold back truncation; use Retain for that. It must be
// closed.
func (l *Log) Cursor(from uint64) (*Cursor, error) {
	if l.closed.Load() {
		return nil, ErrClosed
	}

	c := &Cursor{log: l, from: from}
	s, f, err := l.acquire(from, nil)
	if err != nil {
		return nil, err
	}

	c.enter(s, f, s.near(from))

	return c, nil
}

// enter begins to read segment s at a waypoint.
func (c *Cursor) enter(s *seg, f File, at waypoint) {
	c.seg = s
	c.want = at.first
	c.way = at.offset
	c.r = frameReader{file: f, seed: s.seed, off: at.offset, ahead: c.r.ahead, grows: c.r.grows, buf: c.r.buf}
}

// leave releases the segment being read.
func (c *Cursor) leave() {
	if c.seg == nil {
		return
	}
	c.log.releaseSegment(c.seg)
	c.seg = nil
}

// Next returns the next record, and waits until there is a durable one. Data is valid until the
// next call on the cursor. When the log has failed, Next returns everything that is durable and
// then ErrFailed; when it is closed, ErrClosed. Other errors are ctx's error, ErrTruncated if
// truncation overtook the cursor, and *CorruptError. A gap that a salvage recorded is a
// *CorruptError too; to read on, open a cursor at the index after its Lost records.
func (c *Cursor) Next(ctx context.Context) (Entry, error) {
	for {
		// Take the channel first, so that a record that becomes durable after the look is not
		// missed.
		if c.left == 0 && c.caughtUp() {
			news := c.log.news.wait()
			e, ok, err := c.TryNext()
			if ok || err != nil {
				return e, err
			}

			c.r.lo, c.r.hi, c.r.buf, c.rest = 0, 0, nil, nil // the wait may be long

			select {
			case <-news:
			case <-ctx.Done():
				return Entry{}, ctx.Err()
			}

			continue
		}
		if e, ok, err := c.TryNext(); ok || err != nil {
			return e, err
		}
	}
}

// caughtUp reports whether nothing more of the present segment can be read just now.
func (c *Cursor) caughtUp() bool { return c.seg == nil || c.r.off >= c.seg.end.Load() }

// TryNext is Next without the wait: ok is false if no further record is durable.
func (c *Cursor) TryNext() (e Entry, ok bool, err error) {
	for {
		for c.left > 0 {
			if c.big != nil {
				e, err := c.nextSection()
				if err != nil || e.Section != nil {
					return e, err == nil, err
				}
				continue
			}

			kind, data, rest, err := segment.NextRecord(c.rest)
			if err == nil && c.left == 1 && len(rest) > 0 {
				err = fmt.Errorf("frame has %d bytes after its last record", len(rest))
			}
			if err != nil {
				return Entry{}, false, c.damaged(c.r.off, err)
			}

			index := c.index
			c.rest = rest
			c.left--
			c.index++
			if index >= c.from {
				return Entry{Index: index, Kind: Kind(kind), Data: data}, true, nil
			}
		}
		if more, err := c.advance(); !more || err != nil {
			return Entry{}, false, err
		}
	}
}

// advance reads the next frame. It returns false if there is none yet.
func (c *Cursor) advance() (bool, error) {
	if c.err != nil {
		return false, c.err
	}

	if c.log.closed.Load() {
		c.err = ErrClosed
		return false, c.err
	}

	for {
		// The order of these reads matters. If the log has failed by the first read, no record can
		// become durable after it. If the segment is sealed by the second read, the end that the
		// third read gets is final.
		failed := c.log.failure()
		sealed := c.seg.sealed.Load()
		c.r.end = c.seg.end.Load()
		if c.r.off < c.r.end {
			return true, c.frame()
		}
		if !sealed {
			return false, failed
		}

		s, f, err := c.log.acquire(c.want, c.seg)
		if err != nil {
			c.err = err
			return false, err
		}

		if s == nil {
			return false, failed
		}

		if s.first != c.want {
			c.log.releaseSegment(s)
			return false, c.damaged(c.r.off,
				fmt.Errorf("the next segment begins with record %d, want %d", s.first, c.want))
		}

		c.leave()
		c.enter(s, f, waypoint{s.first, segment.HeaderSize})
	}
}

// frame reads the next frame.
func (c *Cursor) frame() error {
	if entered, err := c.large(); entered || err != nil {
		return err
	}

	f, at, err := c.r.next()
	switch {
	case err == nil && f.First != c.want:
		return c.damaged(at, fmt.Errorf("frame begins with record %d, want %d", f.First, c.want))

	case err == nil && f.Flags&segment.FlagGap != 0:
		if g := gapOf(f, at); f.First > c.from || g.Last >= c.from {
			g.File = c.seg.path
			c.err = g.damage()
			return c.err
		}
		c.want = f.Next()
		return nil

	case err == nil:
		if at-c.way >= waypointEvery { // the next cursor need not read so far
			c.seg.noteFrame(f.First, at)
			c.way = at
		}
		c.want = f.Next()
		c.rest, c.left, c.index = f.Payload, f.Count, f.First
		return nil

	case err == io.EOF || isBadFrame(err):
		return c.damaged(at, err)
	}

	c.err = fmt.Errorf("eventlog: reading %s at offset %d: %w", c.seg.path, at, err)
	return c.err
}

// damaged makes damage at an offset the cursor's sticky error, and returns it.
func (c *Cursor) damaged(at int64, why error) error {
	c.left, c.big = 0, nil
	c.err = &CorruptError{File: c.seg.path, Offset: at, Index: c.want, Reason: why.Error()}
	return c.err
}

// Close releases the cursor.
func (c *Cursor) Close() {
	c.leave()
	if c.err == nil {
		c.err = ErrClosed
	}
	c.left, c.rest, c.big, c.r.buf = 0, nil, nil, nil
}

// Read returns a durable record. Its Data belongs to the caller. Errors: ErrTruncated, ErrNotFound,
// *CorruptError.
func (l *Log) Read(index uint64) (Entry, error) {
	if durable := l.Durable(); index > durable {
		return Entry{}, fmt.Errorf("%w: %d, the last is %d", ErrNotFound, index, durable)
	}
	c, err := l.Cursor(index)
	if err != nil {
		return Entry{}, err
	}
	defer c.Close()

	c.r.ahead, c.r.grows = 4<<10, true
	e, ok, err := c.TryNext()
	if err != nil {
		return Entry{}, err
	}
	if !ok {
		return Entry{}, fmt.Errorf("%w: %d", ErrNotFound, index)
	}

	e.Data = bytes.Clone(e.Data)

	return e, nil
}
