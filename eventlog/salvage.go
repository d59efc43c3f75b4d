package eventlog

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// Salvaged says what Salvage found and copied.
type Salvaged struct {
	Source  [16]byte // identity of the damaged log
	ID      [16]byte // identity of the new one
	First   uint64   // index of the first record of the new log; Last+1 if there is none
	Last    uint64   // index of the last record, copied or lost
	Records uint64   // number of records copied
	Gaps    []Gap    // what is missing, in order, as the new log holds it
	Front   string   // why records before First may be missing; empty if they were truncated or never existed
	Torn    int64    // bytes of an interrupted write at the end; no append of them was acknowledged
	Passed  []Passed // files from which nothing was taken, and why
}

// Passed is a file from which a salvage took nothing.
type Passed struct{ File, Reason string }

// Whole reports whether nothing is missing.
func (s Salvaged) Whole() bool { return len(s.Gaps) == 0 && s.Front == "" }

// Salvage makes a new log in dest of every record of the damaged log in src that is proved by its
// checksums. Each record keeps its index. Where records are missing in between, the new log has a
// [Gap]. Salvage changes nothing in src, and nobody may be writing it. It identifies files by their
// content, not by their names: it also reads a segment that was renamed or whose header is gone.
//
// If nothing is proved, the error is ErrCorrupt; if there is no log at all, it is fs.ErrNotExist.
//
// The new log has an identity of its own. It may end before the damaged log did. What is then
// appended to it gets indexes at which the damaged log had other records. Salvage reports Progress
// to Options.Events.
func Salvage(ctx context.Context, src, dest string, o Options) (Salvaged, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Salvaged{}, err
	}
	if in, err := filepath.Rel(src, dest); err == nil && filepath.IsLocal(in) {
		return Salvaged{}, fmt.Errorf("eventlog: %s lies in %s, where a salvage changes nothing", dest, src)
	}

	s := salvage{ctx: ctx, inspection: inspection{fs: o.FS, dir: filepath.Clean(src)}, o: o}
	lock, err := s.open()
	if err != nil {
		return s.out, err
	}
	if lock != nil {
		defer lock.Close()
	}

	err = s.run(dest)
	s.leave()

	if err != nil && s.to != nil {
		err = errors.Join(err, s.to.Abort())
	}

	return s.out, err
}

// salvage is the state of one call of Salvage.
type salvage struct {
	ctx context.Context // of the call of Salvage
	inspection
	o     Options
	parts []*part
	out   Salvaged
	to    *Builder
	dest  string
	next  uint64 // index after the last frame that was proved; 0 before the first
	last  uint64 // number of the newest segment that has a frame that was proved

	hole *Gap // a bad place met since the last copied frame, or nil

	reading *part // the file that frames are copied from
	r       frameReader

	done, total int64 // bytes read
}

// part is a file of the log, or one that may be.
type part struct {
	path     string
	number   uint64
	size     int64
	header   segment.Header
	seed     segment.Seed
	frames   []found
	bad      []hole // places where a frame should have been
	sealed   bool
	beyond   beyond
	reliable int // number of frames before the first hole
}

// found is a frame that its checksum proves.
type found struct {
	part   *part
	at     int64
	size   int64
	first  uint64
	count  uint32
	synced uint64
	flags  segment.Flags
}

// hole is a place where there is no good frame.
type hole struct {
	at     int64
	reason string
}

// open takes the lock, if there is one, and lists the files.
func (s *salvage) open() (io.Closer, error) {
	names, lock, err := s.lockIfThere()
	if err != nil {
		return nil, err
	}

	slices.Sort(names)
	for _, name := range names {
		if filepath.Ext(name) == segSuffix {
			number, _ := parseSegName(name)
			s.parts = append(s.parts, &part{path: filepath.Join(s.dir, name), number: number})
		}
	}

	return lock, nil
}

// pass records that nothing is taken from a file, and why.
func (s *salvage) pass(path, format string, args ...any) {
	s.out.Passed = append(s.out.Passed, Passed{path, fmt.Sprintf(format, args...)})
}

// run copies what it can to a new log in dest.
func (s *salvage) run(dest string) error {
	s.dest = dest
	if err := s.readExtent(); err != nil {
		return err
	}
	if len(s.parts) == 0 && s.extent == nil && s.extentDamage == nil {
		return fmt.Errorf("eventlog: no segments in %s: %w", s.dir, fs.ErrNotExist)
	}
	if s.extentDamage != nil {
		s.pass(s.extentDamage.File, "%s", s.extentDamage.Reason)
	}
	if err := s.identify(); err != nil {
		return err
	}

	for len(s.parts) > 0 {
		n := 1
		for n < len(s.parts) && s.parts[n].number == s.parts[0].number {
			n++
		}
		if err := s.segment(s.parts[:n], n == len(s.parts)); err != nil {
			return err
		}
		s.parts = s.parts[n:]
	}

	if e := s.extent; s.to == nil && e != nil && e.Next == e.FirstIndex && s.last >= e.Last {
		if err := s.begin(e.FirstIndex); err != nil { // the log never had a record
			return err
		}
	}

	if s.to == nil {
		return fmt.Errorf("%w: nothing in %s can be proved to be a record of log %x%s", ErrCorrupt, s.dir,
			s.out.Source, s.passed())
	}

	if err := s.end(); err != nil {
		return err
	}
	if err := s.to.Finish(); err != nil {
		return err
	}

	s.out.ID, s.out.Last = s.to.ID(), s.to.Next()-1

	return nil
}

// passed lists the files that were passed over, for an error.
func (s *salvage) passed() string {
	text := ""
	for _, p := range s.out.Passed {
		text += fmt.Sprintf("; %s: %s", filepath.Base(p.File), p.Reason)
	}
	return text
}

// identify finds out which log this is, which files belong to it, and the order of the files.
func (s *salvage) identify() error {
	votes := map[[16]byte]int{}
	var ours []*part

	for _, p := range s.parts {
		if err := s.readHeader(p); err != nil {
			s.pass(p.path, "%v", err)
			continue
		}

		s.total += p.size
		if p.header.Number != 0 {
			votes[p.header.ID]++
		}

		ours = append(ours, p)
	}

	if e := s.extent; e != nil && votes[e.ID] == 0 && len(votes) > 0 {
		s.pass(filepath.Join(s.dir, extentName), "it belongs to log %x, and no segment does", e.ID)
		s.extent = nil
	}

	if s.extent != nil {
		s.out.Source = s.extent.ID
	} else {
		for id, n := range votes {
			if n > votes[s.out.Source] || n == votes[s.out.Source] && slices.Compare(id[:], s.out.Source[:]) < 0 {
				s.out.Source = id
			}
		}
	}

	s.parts = nil
	for _, p := range ours {
		switch {
		case p.header.Number != 0 && p.header.ID != s.out.Source:
			s.pass(p.path, "segment belongs to log %x", p.header.ID)

		case p.header.Number == 0 && p.number == 0:
			s.pass(p.path, "neither its header nor its name says which segment this is")

		default:
			if p.header.Number != 0 {
				p.number = p.header.Number
			}
			if s.extent != nil && p.number < s.extent.First {
				s.pass(p.path, "segment %x was truncated", p.number)
				continue
			}
			s.parts = append(s.parts, p)
		}
	}

	slices.SortStableFunc(s.parts, func(a, b *part) int { return cmp.Compare(a.number, b.number) })

	return nil
}

// readHeader reads a header. If the header is bad, its Number stays 0.
func (s *salvage) readHeader(p *part) error {
	f, err := s.fs.Open(p.path, false)
	if err != nil {
		return err
	}
	defer f.Close()

	if p.size, err = f.Size(); err != nil {
		return err
	}

	buf, err := readUpTo(f, segment.HeaderSize, 0)
	if err != nil {
		return err
	}

	if h, err := segment.DecodeHeader(buf); err == nil {
		p.header, p.seed = h, h.Seed()
	} else if errors.Is(err, segment.ErrVersion) {
		return err
	} else {
		p.bad = append(p.bad, hole{0, err.Error()})
		if p.number == 0 && len(buf) >= 40 { // the bad header may still hold it, and a frame must prove it
			p.number = binary.LittleEndian.Uint64(buf[32:])
		}
	}

	return nil
}

// segment copies what the files of one segment prove. There is more than one file if somebody
// copied the segment.
func (s *salvage) segment(parts []*part, last bool) error {
	var frames []found
	var bad []Gap // only places, no indexes

	for _, p := range parts {
		if err := s.scan(p); err != nil {
			return fmt.Errorf("eventlog: reading %s: %w", p.path, err)
		}

		if last && p.torn(s.extent) {
			s.out.Torn = max(s.out.Torn, p.beyond.bytes)
			p.frames, p.bad = p.frames[:p.reliable], nil
		} else if len(p.frames) == 0 {
			s.pass(p.path, "no frame in it can be proved")
		}

		for _, h := range p.bad {
			bad = append(bad, Gap{File: p.path, Offset: h.at, Reason: h.reason})
		}

		frames = append(frames, p.frames...)
	}

	slices.SortStableFunc(frames, func(a, b found) int { return cmp.Compare(a.first, b.first) })

	for _, f := range frames {
		for len(bad) > 0 && (bad[0].File != f.part.path || bad[0].Offset < f.at) {
			s.hole, bad = &bad[0], bad[1:]
		}
		if err := s.copy(f); err != nil {
			return err
		}
	}

	if len(bad) > 0 {
		s.hole = &bad[0]
	}

	return nil
}

// torn reports whether a crash can explain what follows the reliable frames of the last segment, by
// the rules of recovery.
func (p *part) torn(e *segment.Extent) bool {
	if p.sealed || p.beyond.proof != 0 || p.header.Number == 0 {
		return false
	}
	return e == nil || p.number > e.Last || p.number == e.Last && !e.Sealed
}

// copy copies a frame, and records what is missing before it.
func (s *salvage) copy(f found) error {
	if err := s.ctx.Err(); err != nil {
		return context.Cause(s.ctx)
	}

	if s.to == nil {
		if err := s.begin(f.first); err != nil {
			return err
		}
	}

	next := s.to.Next()
	if f.first+uint64(f.count) <= next && f.flags != segment.FlagGap || f.first < next {
		return nil // known from another copy
	}

	if f.first > next {
		g := Gap{First: next, Last: f.first - 1, File: f.part.path, Offset: f.at,
			Reason: fmt.Sprintf("no segment holds them; %s continues after them",
				filepath.Base(f.part.path))}
		if err := s.lost(g); err != nil {
			return err
		}
	}

	s.hole = nil
	if f.count == 0 && f.flags != segment.FlagGap {
		return nil // a seal or a mark only proves where it is
	}

	payload, err := s.read(f)
	if err != nil {
		return fmt.Errorf("eventlog: reading %s at offset %d: %w", f.part.path, f.at, err)
	}

	if f.flags == segment.FlagGap { // the log had been salvaged before
		s.out.Gaps = append(s.out.Gaps, Gap{First: f.first, Last: f.first + uint64(f.count) - 1, File: f.part.path,
			Offset: f.at, Reason: string(payload)})
	} else {
		s.out.Records += uint64(f.count)
	}

	return s.to.frame(f.count, f.flags, payload)
}

// begin makes the new log. If the first records are missing, the new log begins with a gap.
func (s *salvage) begin(first uint64) (err error) {
	from := first
	switch {
	case s.extent != nil:
		from = min(first, s.extent.FirstIndex)
	case first > 1:
		s.out.Front = fmt.Sprintf("%s cannot be read, so it is unknown whether the records before %d were truncated",
			extentName, first)
	}

	o := s.o
	o.FirstIndex, o.QuickOpen = from, false
	s.out.First = from
	s.to, err = NewBuilder(s.dest, o)
	return err
}

// lost records a gap. If a bad place was met before it, the gap gets that place and reason.
func (s *salvage) lost(g Gap) error {
	if h := s.hole; h != nil {
		g.File, g.Offset, g.Reason = h.File, h.Offset, h.Reason
		s.hole = nil
	}
	s.out.Gaps = append(s.out.Gaps, g)
	return s.to.Lost(g.count(), fmt.Sprintf("%s (salvaged from log %x; noticed in %s at offset %d)", g.Reason,
		s.out.Source, g.File, g.Offset))
}

// end decides whether the log went on beyond the last copied record, and records that gap.
func (s *salvage) end() error {
	next := s.to.Next()
	g := Gap{First: next, File: filepath.Join(s.dir, extentName)}
	e := s.extent

	switch {
	case e == nil:
		g.Last, g.Reason = next-1, fmt.Sprintf("%s cannot be read, so it is unknown whether the log went on",
			extentName)
	case next < e.Next:
		g.Last, g.Reason = e.Next-1, fmt.Sprintf("%s says that the log had records up to at least %d",
			extentName, e.Next-1)
	}

	if g.Reason != "" {
		if err := s.lost(g); err != nil {
			return err
		}
	}

	if e != nil && !e.Sealed && s.last < e.Last {
		file := segPath(s.dir, e.Last)
		return s.lost(Gap{First: s.to.Next(), Last: s.to.Next() - 1, File: file,
			Reason: fmt.Sprintf("segment is missing or unreadable; %s says that the log reached it", extentName)})
	}

	return nil
}
