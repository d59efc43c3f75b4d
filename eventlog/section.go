package eventlog

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// Section is the data of a record that was not read into memory: it is read where it lies. It
// stays readable after the cursor has moved on, until it is closed; the file is not recycled
// meanwhile. It is safe for concurrent use, except for Close.
type Section struct {
	*io.SectionReader
	log *Log
	seg *seg
}

// Close releases the section. Closing it again does nothing.
func (s *Section) Close() {
	if s.seg != nil {
		s.log.releaseSegment(s.seg)
		s.seg = nil
	}
}

// Sections makes the cursor return the records of a frame that is larger than limit bytes without
// reading them into memory: Entry.Data is nil then, and Entry.Section has the data, which the
// caller closes. The frame's checksum is checked before, in one pass of small reads. It must be
// called before the first read.
func (c *Cursor) Sections(limit int64) { c.sections = limit }

// largeFrame is a frame whose records are not in memory.
type largeFrame struct{ at, end int64 }

// large looks at the next frame, and checks and enters it if it is to be read in sections. false
// without an error means that it is not.
func (c *Cursor) large() (bool, error) {
	if c.sections == 0 || c.r.off+segment.FrameHeaderSize > c.r.end {
		return false, nil
	}

	head := make([]byte, segment.FrameHeaderSize)
	if c.r.hi-c.r.lo >= len(head) {
		copy(head, c.r.buf[c.r.lo:])
	} else if _, err := c.r.file.ReadAt(head, c.r.off); err != nil {
		return false, nil // the usual way meets the error again
	}
	f, size, err := segment.DecodeHeaderAt(head, c.r.seed, c.r.off)
	if err != nil || f.Flags != 0 || size <= c.sections || c.r.off+size > c.r.end || f.First != c.want {
		return false, nil
	}

	at := c.r.off
	sum := segment.NewChecksum(c.r.seed)
	sum.Write(head[4:])
	rest := io.NewSectionReader(c.r.file, at+segment.FrameHeaderSize, size-segment.FrameHeaderSize)
	buf := make([]byte, readSize)
	if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{rest}, buf); err != nil {
		c.err = fmt.Errorf("eventlog: reading %s at offset %d: %w", c.seg.path, at, err)
		return false, c.err
	}
	if got := sum.Sum32(); got != f.CRC {
		return false, c.damaged(at, fmt.Errorf("%w: got %08x, want %08x", segment.ErrChecksum, got, f.CRC))
	}

	length := int64(binary.LittleEndian.Uint32(head[4:]))
	c.big = &largeFrame{at + segment.FrameHeaderSize, at + segment.FrameHeaderSize + length}
	c.rest, c.left, c.index, c.want = nil, f.Count, f.First, f.Next()
	c.r.off, c.r.lo, c.r.hi = at+size, 0, 0

	return true, nil
}

// nextSection returns the next record of the frame that is read in sections.
func (c *Cursor) nextSection() (Entry, error) {
	var head [binary.MaxVarintLen64 + 1]byte
	b := head[:min(int64(len(head)), c.big.end-c.big.at)]
	if _, err := c.r.file.ReadAt(b, c.big.at); err != nil && err != io.EOF {
		c.err = fmt.Errorf("eventlog: reading %s at offset %d: %w", c.seg.path, c.big.at, err)
		return Entry{}, c.err
	}
	size, n := binary.Uvarint(b)
	if n <= 0 || n >= len(b) || size > uint64(c.big.end-c.big.at-int64(n)-1) {
		return Entry{}, c.damaged(c.r.off, fmt.Errorf("record does not fit its frame"))
	}
	at := c.big.at + int64(n) + 1
	next := at + int64(size)
	if c.left == 1 && next != c.big.end {
		return Entry{}, c.damaged(c.r.off, fmt.Errorf("frame has %d bytes after its last record", c.big.end-next))
	}

	e := Entry{Index: c.index, Kind: Kind(b[n])}
	if e.Index >= c.from {
		c.log.segMu.Lock()
		c.seg.readers++ // the cursor has one, so the file is open
		c.log.segMu.Unlock()
		e.Section = &Section{io.NewSectionReader(c.r.file, at, int64(size)), c.log, c.seg}
	}
	c.big.at = next
	c.left--
	c.index++
	if c.left == 0 {
		c.big = nil
	}

	return e, nil
}
