package eventlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// readSize is how much is read at once, in bytes. It is large enough to keep the calls few, and
// small enough to stay in a core's cache between the copy, the checksum and the use.
const readSize = 128 << 10

// frameReader reads frames one after another.
type frameReader struct {
	file File
	seed segment.Seed
	off  int64 // of the next frame
	end  int64 // offset at which reading ends

	ahead  int64 // how much to read at once; 0 is readSize
	grows  bool  // ahead doubles with each read, up to readSize: the frame that is wanted may be near or far
	buf    []byte
	lo, hi int // buf[lo:hi] is what the file holds at off
}

// next returns the next frame and its offset. The payload is valid until the next call. Errors are
// io.EOF at end, a segment error if there is no good frame, or the error of the file. After an
// error, off is where the frame would be.
func (r *frameReader) next() (segment.Frame, int64, error) {
	for {
		f, size, err := segment.Decode(r.buf[r.lo:r.hi], r.seed, r.off)
		if err == nil {
			at := r.off
			r.lo += int(size)
			r.off += size
			return f, at, nil
		}

		if err != segment.ErrShort { // Decode returns it bare
			return segment.Frame{}, r.off, err
		}
		if r.off >= r.end {
			return segment.Frame{}, r.off, io.EOF
		}
		size = max(size, segment.FrameHeaderSize)
		if r.off+size > r.end {
			return segment.Frame{}, r.off, err
		}
		if err := r.fill(size); err != nil {
			return segment.Frame{}, r.off, err
		}
	}
}

// fill reads on until the buffer holds at least need bytes.
func (r *frameReader) fill(need int64) error {
	ahead := r.ahead
	if ahead == 0 {
		ahead = readSize
	}

	have, useful := int64(len(r.buf)), max(need, min(ahead, r.end-r.off))
	into := r.buf

	switch {
	case have < useful:
		into = make([]byte, max(useful, min(2*have, ahead)))
	case have > 16*ahead && useful <= ahead:
		into = make([]byte, ahead) // a large frame was read; do not keep its memory
	}

	r.hi = copy(into, r.buf[r.lo:r.hi])
	r.buf = into
	r.lo = 0
	want := min(int64(len(r.buf)), r.end-r.off)
	n, err := r.file.ReadAt(r.buf[r.hi:want], r.off+int64(r.hi))
	r.hi += n
	if r.grows {
		r.ahead = min(2*ahead, readSize)
	}
	if int64(r.hi) >= need {
		return nil // a later read meets an error further on again
	}
	if err == nil || err == io.EOF {
		return segment.ErrShort
	}

	return err
}

// readUpTo returns the n bytes of f at off, or fewer if the file ends before.
func readUpTo(f File, n int, off int64) ([]byte, error) {
	buf := make([]byte, n)
	n, err := f.ReadAt(buf, off)
	if err == io.EOF {
		err = nil
	}
	return buf[:n], err
}

// isBadFrame reports whether err means wrong bytes, rather than a file that cannot be read.
func isBadFrame(err error) bool {
	return errors.Is(err, segment.ErrShort) || errors.Is(err, segment.ErrBlank) ||
		errors.Is(err, segment.ErrFrameHeader) || errors.Is(err, segment.ErrChecksum) || errors.Is(err, errSequence)
}

// errSequence means that a good frame is in the wrong place.
var errSequence = errors.New("frame is out of sequence")

// scan is the result of reading a segment from its first frame.
type scan struct {
	end       int64  // where the good frames end; the seal, if there is one, begins here
	next      uint64 // index after the last record
	lastFrame int64  // offset of the last good frame; 0 if there is none
	synced    int64  // offset up to which all was durable, as the last good frame or the seal says
	sealed    bool
	seal      segment.Seal
	bad       error // why reading ended before a seal and before the end of the file, or nil
	frames    uint64
	gaps      []Gap
	waypoints []waypoint
}

// scanFrames reads size bytes of a segment. The error is only about reading the file, never about
// its content.
func scanFrames(f File, h segment.Header, seed segment.Seed, size int64) (scan, error) {
	r := frameReader{file: f, seed: seed, off: segment.HeaderSize, end: size}
	s := scan{end: segment.HeaderSize, next: h.FirstIndex, synced: segment.HeaderSize}

	for {
		fr, at, err := r.next()
		if err == nil && fr.First != s.next {
			err = fmt.Errorf("%w: it begins with record %d, want %d", errSequence, fr.First, s.next)
		}

		if err == nil {
			if rerr := segment.CheckRecords(fr); rerr != nil {
				err = fmt.Errorf("%w: %v", errSequence, rerr)
			}
		}

		switch {
		case err == io.EOF:
			return s, nil
		case err != nil && isBadFrame(err):
			s.bad = err
			return s, nil
		case err != nil:
			return s, err
		}

		s.synced, s.lastFrame = int64(fr.Synced), at

		if fr.Flags&segment.FlagSeal != 0 {
			s.sealed, s.seal = true, segment.Seal{Offset: uint64(at), CRC: fr.CRC}
			return s, nil
		}

		if fr.Flags&segment.FlagGap != 0 {
			s.gaps = append(s.gaps, gapOf(fr, at))
		}

		s.waypoints = addWaypoint(s.waypoints, fr.First, at)
		s.frames++
		s.next, s.end = fr.Next(), r.off
	}
}

// beyond describes what lies past the end of the good frames.
type beyond struct {
	proof int64 // offset of a frame header that proves that the bad place was durable; 0 if there is none
	bytes int64 // how far, at least, writes had gone past the good frames
}

// blank is as much as lookAhead reads at once, of a segment that is not filled yet.
var blank [readSize + segment.FrameHeaderSize]byte

// lookAhead searches what follows the good frames. Each frame says up to which offset everything
// was durable before the frame was written. If that is past the bad place, the bytes there were
// good once, and this is damage. The header of a frame alone is proof, because a header has its own
// check bits; so an interrupted write of a further frame does not hide the damage.
func lookAhead(f File, seed segment.Seed, s scan, size int64, recycled bool) (beyond, error) {
	var b beyond
	buf := make([]byte, min(readSize+segment.FrameHeaderSize, max(size-s.end, 0)))

	for base := s.end; base+segment.FrameHeaderSize <= size; {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), size-base)], base)
		if err != nil && err != io.EOF {
			return b, err
		}

		part := buf[:n]
		if n == len(blank) && bytes.Equal(part, blank[:]) {
			base += readSize // most of a segment that is not full
			continue
		}

		for at := 0; ; {
			i := segment.Find(part[at:], seed, base+int64(at), s.next)
			if i < 0 {
				break
			}

			at += i
			fr, length, err := segment.DecodeHeaderAt(part[at:], seed, base+int64(at))
			if err == nil {
				if int64(fr.Synced) > s.end {
					b.proof = base + int64(at)
					return b, nil
				}
				b.bytes = max(b.bytes, min(base+int64(at)+length, size)-s.end)
			}

			at += segment.Align
		}

		if !recycled {
			for i := len(part) - 1; i >= 0; i-- {
				if part[i] != 0 {
					b.bytes = max(b.bytes, base+int64(i)+1-s.end)
					break
				}
			}
		}

		if n < len(buf) || base+int64(n) >= size {
			break
		}

		base += readSize
	}

	return b, nil
}
