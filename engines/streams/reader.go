package streams

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Log is what streams need of the logger. logger.Client implements it.
type Log interface {
	// Cursor returns a cursor that reads durable records from the index on. It ends with the
	// logger's incarnation.
	Cursor(ctx context.Context, from uint64) (*eventlog.Cursor, error)
	Stat(ctx context.Context) (eventlog.Stat, error)
	Retain(ctx context.Context, name string, floor uint64) (*eventlog.Retainer, error)
}

// reopenEvery is how often a reader looks for the next incarnation of a log that is down.
const reopenEvery = 100 * time.Millisecond

// reader makes units of the records of the log, from a record on. It outlives the incarnations of
// the log. It belongs to one goroutine.
type reader struct {
	log func() (Log, error)
	o   *options

	next    uint64 // index of the next record
	cur     *eventlog.Cursor
	decided pending           // the decision on the next block; index 0: none
	reset   *logv1.ChainReset // its Started comes next
	ended   Position          // the last of the period before reset

	last    *Position // of the unit before the next one; nil: it is not known
	missing string    // what the log says of records that it lacks before the next unit
	resumes uint64    // the record after those
	after   *unit     // comes after the hole that was returned
	keep    bytes.Buffer

	first, second *eventlog.Section // of the block under way, if they are not in memory

	hold *eventlog.Retainer // of what is not read yet; nil: a slot holds it
}

// pending is the first record of a block.
type pending struct {
	index uint64
	data  section
	at    Position
	hash  []byte
}

func newReader(log func() (Log, error), o *options, from uint64) *reader {
	return &reader{log: log, o: o, next: from}
}

func (r *reader) close() {
	if r.cur != nil {
		r.cur.Close()
		r.cur = nil
	}
	if r.first != nil && r.decided.index != 0 {
		r.next, r.decided.index = r.decided.index, 0 // its data are gone with the section
	}
	release(&r.first)
	release(&r.second)
}

// unit returns the next unit. With wait it waits for one; otherwise it returns nil if the log has
// no further unit yet. An error of class GapInLog names what is missing.
func (r *reader) unit(ctx context.Context, wait bool) (*unit, error) {
	u, err := r.read(ctx, wait)
	h := new(hole)
	switch {
	case errors.As(err, &h):
		r.last, r.missing = &h.at, ""
	case u != nil && r.missing != "" && !r.follows(u):
		h = r.before(u)
		r.last, r.missing, r.after = &h.at, "", u
		return nil, h
	case u != nil:
		r.last, r.missing = &u.cursor.Position, ""
	}

	return u, err
}

// onward returns the next unit that the log has, whatever it lacks before it, or nil if it has no
// further unit yet. Only an error that is a hole leads on: of any other, the next call would return
// the same again.
func (r *reader) onward(ctx context.Context) (*unit, error) {
	if r.hold != nil {
		r.hold.Advance(r.oldest())
	}
	for {
		u, err := r.unit(ctx, false)
		if errors.As(err, new(*hole)) {
			continue
		}
		return u, err
	}
}

// oldest is the first record that r may read, again or for the first time: the decision on the next
// block is read again if the log is opened anew.
func (r *reader) oldest() uint64 {
	if r.decided.index != 0 {
		return r.decided.index
	}
	return r.next
}

// follows reports whether u comes right after the last unit, so that no unit is missing.
func (r *reader) follows(u *unit) bool {
	switch {
	case u.starts && u.cursor.Period == 0:
		return true // nothing comes before it
	case r.last == nil:
		return false
	}
	return *r.last == r.predecessor(u)
}

// predecessor returns the position of the unit before u.
func (r *reader) predecessor(u *unit) Position {
	if u.starts {
		return r.ended
	}
	return Position{u.cursor.Period, u.cursor.Height - 1}
}

// before returns the hole before u. The cursor of a sink that stands there rests on the last record
// that is missing, and has no app hash, because that is missing too.
func (r *reader) before(u *unit) *hole {
	return &hole{index: r.resumes - 1, at: r.predecessor(u), chainID: u.cursor.ChainID, what: r.missing}
}

// read returns the next unit of the records, which may lack others before it.
func (r *reader) read(ctx context.Context, wait bool) (*unit, error) {
	if u := r.after; u != nil {
		r.after = nil
		return u, nil
	}

	for {
		e, ok, err := r.record(ctx, wait)
		if err != nil || !ok {
			return nil, err
		}
		r.next = e.Index + 1
		u, err := r.take(e)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", e.Index, err)
		}
		if u != nil {
			return u, nil
		}
	}
}

// record returns the next record.
func (r *reader) record(ctx context.Context, wait bool) (e eventlog.Entry, ok bool, err error) {
	release(&r.second)
	for {
		if ctx.Err() != nil {
			return e, false, context.Cause(ctx)
		}
		if r.cur == nil {
			err = r.open(ctx)
		}
		if err == nil && wait {
			e, err = r.cur.Next(ctx)
			ok = err == nil
		} else if err == nil {
			e, ok, err = r.cur.TryNext()
		}
		if err == nil {
			return e, ok, nil
		}

		if err := r.lost(ctx, err); err != nil {
			return e, false, err
		}
		err = nil
	}
}

func (r *reader) open(ctx context.Context) error {
	log, err := r.log()
	if err != nil {
		return err
	}
	if r.cur, err = log.Cursor(ctx, r.next); err == nil {
		r.cur.Sections(maxInMemory)
	}
	return err
}

// lost waits after an error until the log may be open again, or returns what no waiting mends.
func (r *reader) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.close()

	damage := new(eventlog.CorruptError)
	switch {
	case errors.Is(err, eventlog.ErrTruncated):
		return Fail(GapInLog, fmt.Errorf("the log no longer has record %d", r.next))
	case errors.As(err, &damage) && damage.Gap:
		r.next = damage.Index + damage.Lost
		r.missing = fmt.Sprintf("the log has a gap at record %d: %s", damage.Index, damage.Reason)
		r.resumes, r.decided.index, r.reset = r.next, 0, nil
		return nil // the next unit shows whether the gap has lost one
	case errors.As(err, &damage):
		return Fail(GapInLog, err)
	case errors.Is(err, eventlog.ErrClosed), errors.Is(err, eventlog.ErrFailed), errors.Is(err, engines.ErrDown):
	default:
		return err
	}

	again := time.NewTimer(reopenEvery)
	defer again.Stop()
	select {
	case <-again.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// maxInMemory is the size of a frame of the log above which its records are read in place, in bytes
// (R21).
const maxInMemory = 1 << 20

// release closes a section, if there is one.
func release(s **eventlog.Section) {
	if *s != nil {
		(*s).Close()
		*s = nil
	}
}

// whole reads a record of a large frame into memory.
func whole(e *eventlog.Entry) (err error) {
	if e.Section == nil {
		return nil
	}
	defer release(&e.Section)
	e.Data = make([]byte, e.Section.Size())
	_, err = e.Section.ReadAt(e.Data, 0)
	if err == io.EOF {
		err = nil
	}
	return err
}

// take makes a unit of a record, or nil if the record alone makes none.
func (r *reader) take(e eventlog.Entry) (*unit, error) {
	switch e.Kind {
	case chain.KindOrderDecided, chain.KindBlockCommitted:
	case chain.KindChainReset, chain.KindChainStarted, chain.KindSnapshotInstalled, chain.KindBase:
		if err := whole(&e); err != nil {
			return nil, err
		}
	default:
		release(&e.Section)
		return nil, nil
	}

	switch e.Kind {
	case chain.KindOrderDecided:
		return nil, r.decide(e)

	case chain.KindBlockCommitted:
		return r.block(e)

	case chain.KindChainReset:
		m := new(logv1.ChainReset)
		r.reset = m
		err := proto.Unmarshal(e.Data, m)
		r.ended = Position{m.OldPeriod, m.LastHeight}
		return nil, err

	case chain.KindChainStarted:
		m := new(logv1.ChainStarted)
		if err := proto.Unmarshal(e.Data, m); err != nil {
			return nil, err
		}
		return r.started(e.Index, m)

	case chain.KindSnapshotInstalled:
		m := new(logv1.SnapshotInstalled)
		if err := proto.Unmarshal(e.Data, m); err != nil {
			return nil, err
		}
		return nil, &hole{index: e.Index, at: Position{m.Period, m.Height}, chainID: m.ChainId, appHash: m.AppHash,
			what: fmt.Sprintf("a snapshot of height %d was installed, so the log lacks blocks before it", m.Height)}

	case chain.KindBase:
		m := new(logv1.Base)
		if err := proto.Unmarshal(e.Data, m); err != nil {
			return nil, err
		}
		return nil, &hole{index: e.Index, at: Position{m.Period, m.Height}, chainID: m.ChainId, appHash: m.AppHash,
			what: fmt.Sprintf("the log begins after height %d", m.Height)}
	}

	return nil, nil
}

// hole is a record at which the log lacks what was before: the chain goes on after at. It has the
// class GapInLog.
type hole struct {
	index   uint64
	at      Position
	chainID string
	appHash []byte
	what    string
}

func (h *hole) Error() string { return h.what }

// Unwrap gives the hole its class.
func (h *hole) Unwrap() error { return &Failure{Class: GapInLog, Err: errors.New(h.what)} }

// cursor returns the cursor of a sink that stands where the log goes on.
func (h *hole) cursor() Cursor { return Cursor{ChainID: h.chainID, Position: h.at, AppHash: h.appHash} }

// decide keeps the first record of a block.
func (r *reader) decide(e eventlog.Entry) error {
	release(&r.first)
	r.keep.Reset()
	if e.Section != nil {
		r.first = e.Section
		r.decided = pending{index: e.Index, data: e.Section}
	} else {
		r.keep.Write(e.Data)
		r.decided = pending{index: e.Index, data: readerAt(r.keep.Bytes())}
	}

	w := newWalk(r.decided.data, 0, r.decided.data.Size())
	for {
		f, ok, err := w.next()
		if err != nil || !ok || f.num > decidedHash {
			return err
		}
		switch f.num {
		case 2:
			r.decided.at.Period = f.value
		case 3:
			r.decided.at.Height = f.value
		case decidedHash:
			b, err := w.content(f)
			if err != nil {
				return err
			}
			r.decided.hash = append([]byte(nil), b...)
		}
	}
}

// block makes the unit of a committed block. The unit's memory is valid until the next record is
// read.
func (r *reader) block(e eventlog.Entry) (*unit, error) {
	data := section(readerAt(e.Data))
	if e.Section != nil {
		r.second, data = e.Section, e.Section
	}
	head, err := readCommitted(data)
	if err != nil {
		return nil, err
	}

	d := r.decided
	if d.index == 0 || d.at != head.at || !bytes.Equal(d.hash, head.blockHash) {
		return nil, &hole{index: e.Index, at: head.at, chainID: head.chainID, appHash: head.appHash,
			what: fmt.Sprintf("the log has the outcome of height %s and lacks its decision", head.at)}
	}
	r.decided.index = 0

	return &unit{
		cursor: Cursor{ChainID: head.chainID, Position: head.at, BlockHash: head.blockHash, AppHash: head.appHash},
		index:  e.Index, o: r.o, close: func() {},
		raw: newBlockEvents(d.data, data, head, r.o),
	}, nil
}

// started makes the unit of the begin of a chain or of a period.
func (r *reader) started(index uint64, m *logv1.ChainStarted) (*unit, error) {
	at := Place{ChainID: m.ChainId, Position: startOf(m)}
	var bodies []Body
	if m.Period > 0 {
		if r.reset == nil || r.reset.NewChainId != m.ChainId {
			return nil, &hole{index: index, at: at.Position, chainID: m.ChainId, appHash: m.AppHash,
				what: fmt.Sprintf("the log has the start of %s and lacks the end of the chain before it", m.ChainId)}
		}
		bodies = append(bodies, &Reset{OldChainID: r.reset.OldChainId, OldPeriod: r.reset.OldPeriod,
			LastHeight: r.reset.LastHeight, LastAppHash: r.reset.LastAppHash, ResetHeight: r.reset.ResetHeight,
			StateRoot: r.reset.StateRoot})
	}
	r.reset, r.decided.index = nil, 0

	started := &Started{InitialHeight: m.InitialHeight, GenesisTime: time.Unix(0, m.GenesisTimeNs).UTC(),
		AppHash: m.AppHash}
	if len(m.AppState) > 0 {
		h := sha256.Sum256(m.AppState)
		started.AppStateSHA256 = h[:]
	}
	bodies = append(bodies, started)
	for _, v := range m.Validators {
		bodies = append(bodies, &Validator{KeyType: v.KeyType, PubKey: v.PubKey, Power: v.Power})
	}

	return &unit{
		cursor: Cursor{ChainID: m.ChainId, Position: at.Position, AppHash: m.AppHash}, index: index, starts: true,
		o: r.o, close: func() {}, raw: newListUnit(at, &End{AppHash: m.AppHash}, bodies...),
	}, nil
}

// startOf returns the position of the unit that begins a period.
func startOf(m *logv1.ChainStarted) Position {
	return Position{Period: m.Period, Height: max(m.InitialHeight, 1) - 1}
}

// gapUnit returns the unit that tells a sink of a hole.
func gapUnit(h *hole, o *options, after *Position) *unit {
	gap := &Gap{After: after, Reason: h.what}
	return &unit{cursor: h.cursor(), index: h.index, o: o, close: func() {},
		raw: newListUnit(Place{ChainID: h.chainID, Position: h.at}, &End{AppHash: h.appHash}, gap)}
}

var _ io.ReaderAt = readerAt(nil)
