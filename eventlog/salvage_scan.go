package eventlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// scan finds all frames of a file that their checksums prove.
func (s *salvage) scan(p *part) error {
	f, err := s.fs.Open(p.path, false)
	if err != nil {
		return err
	}
	defer f.Close()

	if p.header.Number == 0 && !p.guess(f, s.out.Source, s.next) {
		return nil
	}

	s.last = max(s.last, p.number)
	next := p.header.FirstIndex
	r := frameReader{file: f, seed: p.seed, off: segment.HeaderSize, end: p.size}
	p.reliable = -1

	for {
		fr, at, err := r.next()
		if err == nil && fr.First < next {
			err = fmt.Errorf("%w: it begins with record %d, want %d", errSequence, fr.First, next)
		}
		if err == nil && segment.CheckRecords(fr) != nil {
			err = fmt.Errorf("%w: its records do not fit it", errSequence)
		}

		switch {
		case err == nil:
			p.frames = append(p.frames, found{p, at, r.off - at, fr.First, fr.Count, fr.Synced, fr.Flags})
			next = fr.Next()
			s.next = max(s.next, next)
			if fr.Flags&segment.FlagSeal != 0 {
				p.sealed = true
			}
		case err != io.EOF && !isBadFrame(err):
			return err
		}

		if err == io.EOF || p.sealed {
			break
		}
		if err == nil {
			continue
		}

		p.bad = append(p.bad, hole{at, reasonOf(err)})

		if p.reliable < 0 {
			p.reliable = len(p.frames)
			if p.beyond, err = lookAhead(f, p.seed, scan{end: at, next: next}, p.size, p.header.Recycled); err != nil {
				return err
			}
		}

		at, err = findFrame(f, p.seed, at+segment.Align, p.size, next)
		if err != nil {
			return err
		}
		if at < 0 {
			break
		}

		r = frameReader{file: f, seed: p.seed, off: at, end: p.size, buf: r.buf}
	}

	if p.reliable < 0 {
		p.reliable = len(p.frames)
	}

	s.done += p.size
	s.o.Events(Progress{s.done, s.total})

	return nil
}

// guess finds the seed of a segment whose header cannot be read, and reports whether it did. The
// log and the number are known. The first index is where the segment before ended, or what the
// header or the first frame still says. A frame that matches its checksum proves the guess.
func (p *part) guess(f File, id [16]byte, next uint64) bool {
	const need = segment.HeaderSize + segment.FrameHeaderSize
	buf, err := readUpTo(f, need, 0)
	if err != nil || len(buf) < need {
		return false
	}

	for _, first := range []uint64{next, binary.LittleEndian.Uint64(buf[40:]),
		binary.LittleEndian.Uint64(buf[segment.HeaderSize+8:])} {
		if first == 0 {
			continue
		}
		h := segment.Header{ID: id, Number: p.number, FirstIndex: first, Recycled: true}
		if at, err := findFrame(f, h.Seed(), segment.HeaderSize, p.size, first); err == nil && at >= 0 {
			p.header, p.seed = h, h.Seed()
			return true
		}
	}

	return false
}

// findFrame returns the offset of the next whole frame at or after off whose first index is at
// least from, or -1.
func findFrame(f File, seed segment.Seed, off, size int64, from uint64) (int64, error) {
	buf := make([]byte, min(readSize+segment.FrameHeaderSize, max(size-off, 0)))
	for off+segment.FrameHeaderSize <= size {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), size-off)], off)
		if err != nil && err != io.EOF {
			return -1, err
		}

		part := buf[:n]

		for at := 0; ; at += segment.Align {
			i := segment.Find(part[at:], seed, off+int64(at), from)
			if i < 0 {
				break
			}

			at += i
			r := frameReader{file: f, seed: seed, off: off + int64(at), end: size, ahead: 4 << 10}
			if _, _, err := r.next(); err == nil {
				return off + int64(at), nil
			} else if !isBadFrame(err) && err != io.EOF {
				return -1, err
			}
		}

		if n < len(buf) {
			break
		}

		off += readSize
	}

	return -1, nil
}

// read reads a frame's payload again. The payload is valid until the next call.
func (s *salvage) read(f found) ([]byte, error) {
	if s.reading != f.part {
		s.leave()
		file, err := s.fs.Open(f.part.path, false)
		if err != nil {
			return nil, err
		}
		s.reading, s.r.file, s.r.seed = f.part, file, f.part.seed
	}

	s.r.off, s.r.end, s.r.ahead, s.r.lo, s.r.hi = f.at, f.at+f.size, f.size, 0, 0
	fr, _, err := s.r.next()
	return fr.Payload, err
}

// leave closes the file that is open for reading frames.
func (s *salvage) leave() {
	if s.reading != nil {
		s.r.file.Close() // nothing was written
		s.reading = nil
	}
}

// reasonOf returns err as the reason of a gap.
func reasonOf(err error) string {
	if errors.Is(err, segment.ErrShort) {
		return "the file ends"
	}
	return err.Error()
}
