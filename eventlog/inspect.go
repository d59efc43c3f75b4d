package eventlog

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// inspected is one segment file as it was found on the disk.
type inspected struct {
	number  uint64
	path    string
	size    int64
	header  segment.Header
	seed    segment.Seed
	scan    scan
	beyond  beyond        // set for the last segment only
	trusted bool          // only its header and seal are checked
	damage  *CorruptError // nil if the segment is what it should be
}

// inspection reads the segments of a directory. It changes nothing.
type inspection struct {
	fs       FS
	dir      string
	bugs     bugs
	quick    bool  // check only header and seal of the segments before the last ones
	whole    int64 // with quick: how many bytes of the newest segments to check nevertheless
	progress func(done, total int64)

	segs         []*inspected
	leftovers    []string        // paths of truncated segments whose files are still there
	spares       []string        // paths of files that were prepared and never used
	extent       *segment.Extent // nil if it is missing or damaged
	extentDamage *CorruptError
}

// list finds the files. It returns no error if dir is missing.
func (in *inspection) list() error {
	names, err := in.fs.List(in.dir)
	if err != nil && !isNotExist(err) {
		return err
	}

	for _, name := range names {
		path := filepath.Join(in.dir, name)
		if number, ok := parseSegName(name); ok {
			in.segs = append(in.segs, &inspected{number: number, path: path})
		} else if isSpareName(name) {
			in.spares = append(in.spares, path)
		}
	}

	slices.SortFunc(in.segs, func(a, b *inspected) int { return cmp.Compare(a.number, b.number) })
	return nil
}

// run reads all segments. The error is about what could not be read or understood. Damage is
// recorded in the segments and in extentDamage.
func (in *inspection) run() error {
	if err := in.readExtent(); err != nil {
		return err
	}

	for _, s := range in.segs {
		if err := in.header(s); err != nil {
			return err
		}
	}

	in.dropTruncated()
	var total int64

	for i, s := range in.segs {
		if s.damage == nil && i > 0 {
			s.damage = in.segs[i-1].judgeSuccessor(s)
		}
		total += s.size
	}

	in.chooseTrusted()
	if err := in.frames(total); err != nil {
		return err
	}

	for i, s := range in.segs {
		if s.damage == nil {
			var next *inspected
			if i+1 < len(in.segs) {
				next = in.segs[i+1]
			}
			s.damage = s.judge(next)
		}
	}

	in.judgeExtent()

	return nil
}

// chooseTrusted chooses the segments whose frames need no check now. The last segment needs one
// always: its end is to be found.
func (in *inspection) chooseTrusted() {
	left := in.whole
	for i := len(in.segs) - 2; in.quick && i >= 0; i-- {
		if left -= in.segs[i].size; left >= 0 || in.segs[i+1].damage != nil {
			continue
		}
		in.segs[i].trusted = true
	}
}

// header reads and checks the header of a segment.
func (in *inspection) header(s *inspected) error {
	f, err := in.fs.Open(s.path, false)
	if err != nil {
		return err
	}
	defer f.Close()

	if s.size, err = f.Size(); err != nil {
		return err
	}

	buf, err := readUpTo(f, segment.HeaderSize, 0)
	if err != nil {
		return fmt.Errorf("eventlog: reading the header of %s: %w", s.path, err)
	}

	s.header, err = segment.DecodeHeader(buf)
	switch {
	case errors.Is(err, segment.ErrVersion):
		return fmt.Errorf("%w: %s: %v", ErrVersion, s.path, err)
	case err != nil:
		s.damage = &CorruptError{File: s.path, Reason: err.Error()}
	case s.header.Number != s.number:
		s.damage = &CorruptError{File: s.path,
			Reason: fmt.Sprintf("header is of segment %x, want %x as in the file's name", s.header.Number, s.number)}
	}

	if !in.bugs.noSeed {
		s.seed = s.header.Seed()
	}

	return nil
}

// judgeSuccessor returns what is wrong with next as the segment after s, or nil.
func (s *inspected) judgeSuccessor(next *inspected) *CorruptError {
	switch {
	case next.number != s.number+1:
		missing := segPath(filepath.Dir(s.path), s.number+1)
		return &CorruptError{File: missing, Reason: fmt.Sprintf("segment is missing; %s and %s exist",
			filepath.Base(s.path), filepath.Base(next.path))}

	case s.damage != nil:
		return nil // there is no good header to compare with

	case next.header.ID != s.header.ID:
		return &CorruptError{File: next.path, Reason: fmt.Sprintf("segment belongs to log %x, want %x as in %s",
			next.header.ID, s.header.ID, filepath.Base(s.path))}

	case next.header.FirstIndex < s.header.FirstIndex:
		return &CorruptError{File: next.path,
			Reason: fmt.Sprintf("segment begins at record %d, before %d, the first of %s", next.header.FirstIndex,
				s.header.FirstIndex, filepath.Base(s.path))}
	}
	return nil
}

// frames scans every segment that has a good header, a few at a time.
func (in *inspection) frames(total int64) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		fail error
		done int64
		next atomic.Int64
	)

	for range min(len(in.segs), runtime.GOMAXPROCS(0), 4) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(in.segs) {
					return
				}

				s := in.segs[i]
				var err error
				if s.damage == nil {
					err = in.scan(s, i)
				}

				mu.Lock()
				if err != nil && fail == nil {
					fail = fmt.Errorf("eventlog: reading %s: %w", s.path, err)
				}

				done += s.size
				if in.progress != nil {
					in.progress(done, total)
				}

				stop := fail != nil
				mu.Unlock()

				if stop {
					return
				}
			}
		})
	}

	wg.Wait()
	return fail
}

// scan reads the frames of the segment at index i.
func (in *inspection) scan(s *inspected, i int) error {
	f, err := in.fs.Open(s.path, false)
	if err != nil {
		return err
	}
	defer f.Close()

	last := i == len(in.segs)-1
	if s.trusted {
		s.scan, err = scanSeal(f, s, in.segs[i+1].header)
		return err
	}

	if s.scan, err = scanFrames(f, s.header, s.seed, s.size); err != nil || s.scan.sealed || !last {
		return err
	}
	if !in.bugs.noLookAhead {
		s.beyond, err = lookAhead(f, s.seed, s.scan, s.size, s.header.Recycled)
	}

	return err
}

// scanSeal reads only the seal, at the place that the next segment's header gives.
func scanSeal(f File, s *inspected, next segment.Header) (scan, error) {
	at := int64(min(next.PrevSeal.Offset, uint64(s.size)))
	found := scan{end: at, next: next.FirstIndex}
	buf, err := readUpTo(f, segment.FrameHeaderSize, at)
	if err != nil {
		return found, err
	}

	fr, _, err := segment.Decode(buf, s.seed, at)
	switch {
	case err != nil:
		found.bad = err
	case fr.Flags&segment.FlagSeal == 0:
		found.bad = fmt.Errorf("%w: a seal was expected", errSequence)
	default:
		found.sealed, found.next = true, fr.First
		found.seal = segment.Seal{Offset: uint64(at), CRC: fr.CRC}
	}

	return found, nil
}

// judge returns the damage to a segment, or nil for a state that a crash may leave. next is nil for
// the last segment.
func (s *inspected) judge(next *inspected) *CorruptError {
	at := func(index uint64, format string, args ...any) *CorruptError {
		return &CorruptError{File: s.path, Offset: s.scan.end, Index: index, Reason: fmt.Sprintf(format, args...)}
	}
	bad := s.scan.bad
	if bad == nil {
		bad = errors.New("the file ends")
	}

	switch {
	case next == nil && !s.scan.sealed && s.beyond.proof != 0:
		return at(s.scan.next, "%v; the frame at offset %d was written after this place was durable, so this is "+
			"not a torn write", bad, s.beyond.proof)

	case next == nil:
		return nil

	case !s.scan.sealed:
		return at(s.scan.next, "%v; the segment is not the last, so it must have a seal", bad)

	case next.damage != nil && next.header.Number != next.number:
		return nil // nothing to compare with

	case next.number != s.number+1 || next.header.Number == 0:
		return nil

	case next.header.PrevSeal != s.scan.seal:
		return at(0, "seal is at offset %d with checksum %08x; the next segment's header says %d and %08x",
			s.scan.seal.Offset, s.scan.seal.CRC, next.header.PrevSeal.Offset, next.header.PrevSeal.CRC)

	case next.header.FirstIndex != s.scan.next:
		return at(0, "segment ends before record %d; the next segment begins with %d", s.scan.next,
			next.header.FirstIndex)
	}

	return nil
}

// damage returns all damage that was found.
func (in *inspection) damage() []*CorruptError {
	var all []*CorruptError
	for _, s := range in.segs {
		if s.damage != nil {
			all = append(all, s.damage)
		}
	}

	if in.extentDamage != nil {
		all = append(all, in.extentDamage)
	}
	return all
}

// firstDamage returns the first damage that was found, or nil.
func (in *inspection) firstDamage() error {
	if all := in.damage(); len(all) > 0 {
		return all[0]
	}
	return nil
}

// recovery summarizes the log. The result is complete only if the log is not damaged. It is zero if
// there are no segments.
func (in *inspection) recovery() Recovery {
	if len(in.segs) == 0 {
		return Recovery{}
	}

	first, last := in.segs[0], in.segs[len(in.segs)-1]
	r := Recovery{
		ID:         first.header.ID,
		Clean:      last.scan.sealed,
		FirstIndex: first.header.FirstIndex,
		LastIndex:  max(last.scan.next, 1) - 1, // 0 if nothing is known of the last segment
		Segments:   len(in.segs),
		TornBytes:  last.beyond.bytes,
	}

	for _, s := range in.segs {
		r.Bytes += s.scan.end - segment.HeaderSize
		for _, g := range s.scan.gaps {
			g.File = s.path
			r.Gaps = append(r.Gaps, g)
		}
	}

	return r
}

// reader returns the segment as readers see it.
func (s *inspected) reader() *seg {
	r := &seg{number: s.number, first: s.header.FirstIndex, path: s.path, seed: s.seed, waypoints: s.scan.waypoints}
	r.end.Store(s.scan.end)
	r.next.Store(s.scan.next)
	r.sealed.Store(true)
	r.trusted.Store(s.trusted)
	return r
}
