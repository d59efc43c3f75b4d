package tail

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/pubsub"
)

var (
	// ErrNoRecord means that the event log no longer has the record.
	ErrNoRecord = errors.New("no such record")

	// ErrBeyond means that the cursor lies after the last record, so it does not come from this
	// log.
	ErrBeyond = errors.New("cursor lies beyond the log's end")

	// ErrForeign is the class of the errors of Options.Admit: the log has another record under the
	// cursor's index than the one that the reader has seen.
	ErrForeign = errors.New("cursor is refused")
)

// Final reports whether err is permanent, because records are missing or damaged. Waiting does not
// help then.
func Final(err error) bool {
	return errors.Is(err, ErrNoRecord) || errors.Is(err, ErrBeyond) || errors.Is(err, ErrForeign) ||
		errors.Is(err, eventlog.ErrCorrupt)
}

const (
	// Retry is the longest time that a Tail waits before it looks at the log again, even if nothing
	// wakes it.
	Retry = 500 * time.Millisecond

	// MarkEach is the number of records left out in a row after which Next returns a mark.
	MarkEach = 10_000

	// newsBuffer is the number of news that may queue up while a Tail reads. Older news are
	// dropped, because the records come from the log.
	newsBuffer = 16
)

// Log is the part of the logger that a Tail needs. logger.Client implements it.
type Log interface {
	// Cursor returns a cursor that reads durable records from the index on. It ends with the
	// logger's incarnation.
	Cursor(ctx context.Context, from uint64) (*eventlog.Cursor, error)
	Stat(ctx context.Context) (eventlog.Stat, error)
	Retain(ctx context.Context, name string, floor uint64) (*eventlog.Retainer, error)
}

// Options configure a Tail. Only Log is required.
type Options struct {
	// Log returns the log that is open now, or the reason why none is open.
	Log func() (Log, error)

	// After is the cursor: reading begins with the record after it. 0 means the oldest record that
	// is kept. With FromNow, reading begins instead after the record that is the newest durable one
	// when the Tail first opens the log.
	After   uint64
	FromNow bool

	// Admit, if set, is asked once, when the log is first open, whether it has the record that the
	// reader has seen at After; first is the log's oldest record. Its error is final (ErrForeign).
	// It is not asked for a Tail that begins anywhere.
	Admit func(after, first uint64) error

	Kinds []eventlog.Kind // kinds of the records that Next returns; nil means all

	// Bus wakes the Tail with events that match Chain. Chain must match the news of every record of
	// Kinds. If Bus is nil, the log itself wakes the Tail.
	Bus   *pubsub.Bus[engines.Event]
	Chain pubsub.Chain[engines.Event]

	// Changed returns a channel that is closed when a log that is down may be up again. If Changed
	// is nil, the Tail looks after each Retry.
	Changed func() <-chan struct{}

	// EndWithLog makes Next return the error of a log that was closed. Without it, Next waits for
	// the log's next incarnation.
	EndWithLog bool

	// Retainer is the name under which the Tail holds back the truncation of records after the last
	// checkpoint, and of records after After before the first checkpoint. "" means that it holds
	// back none.
	Retainer string
}

// Item is either a record or a mark.
type Item struct {
	eventlog.Entry // Data is valid until the next call of Next

	// Mark means that the item has no record, only an Index. All records up to Index were returned,
	// or are not of Options.Kinds.
	Mark bool
}

// Tail is a reader of the event log. Only one goroutine may use it at a time, but Checkpoint may be
// called from any goroutine. A Tail must be closed.
type Tail struct {
	Options

	cur     *eventlog.Cursor // nil: the log is not open
	changed <-chan struct{}  // as of the last attempt to open the log
	begun   bool             // at is the Tail's place in the log, and no longer Options.After
	at      uint64           // all records up to this index were returned or left out
	end     uint64           // index of the newest durable record when the log was opened
	skipped int              // records left out since the last item

	news *pubsub.Subscription[engines.Event] // nil: not subscribed
	stop context.CancelFunc                  // ends news

	mu       sync.Mutex
	kept     uint64 // the last checkpoint
	retainer *eventlog.Retainer
}

// New returns a Tail that has not opened the log yet.
func New(o Options) *Tail { return &Tail{Options: o, at: o.After} }

// Open opens the log at the cursor. It tries once, and does not wait for a log that is down. A
// caller need not call it, because Next opens the log itself; Open is for a caller that wants the
// error, or At, before the first Next.
func (t *Tail) Open(ctx context.Context) error {
	if t.cur != nil {
		return nil
	}
	if t.Changed != nil {
		t.changed = t.Changed() // before the attempt, so as not to miss a log that comes up meanwhile
	}
	log, err := t.Log()
	if err != nil {
		return err
	}

	for {
		st, err := log.Stat(ctx)
		if err != nil {
			return err
		}

		at := t.at
		t.end = st.Durable
		anywhere := !t.begun && (t.FromNow || at == 0)

		switch {
		case anywhere && t.FromNow:
			at = st.Durable
		case anywhere:
			at = st.First - 1
		case !t.begun && t.Admit != nil:
			if err := t.Admit(at, st.First); err != nil {
				return fmt.Errorf("%w: %w", ErrForeign, err)
			}
		}

		if end := readable(st); at > end {
			return fmt.Errorf("%w: the cursor is %d, the log ends at %d: the cursor came from another log; "+
				"begin again with 0, the oldest record that is kept", ErrBeyond, at, end)
		}

		if err := t.hold(ctx, log, at); err != nil {
			return err
		}

		cur, err := log.Cursor(ctx, at+1)
		switch {
		case err == nil:
			t.cur, t.at, t.begun = cur, at, true
			return nil
		case !errors.Is(err, eventlog.ErrTruncated):
			return err
		case !anywhere:
			return gone(at, err)
		} // else the log was truncated meanwhile: look again
	}
}

// readable returns the index of the newest record that a reader can have. A segment may show a
// record just before the log calls it durable, so the index may be higher than the durable one.
func readable(st eventlog.Stat) uint64 {
	end := st.Durable
	for _, s := range st.Segments {
		end = max(end, s.Last)
	}
	return end
}

func gone(at uint64, err error) error { return fmt.Errorf("%w: %d: %w", ErrNoRecord, at+1, err) }

// hold registers the Tail's retainer with a log that the Tail is about to read, from the record
// after at.
func (t *Tail) hold(ctx context.Context, log Log, at uint64) error {
	if t.Retainer == "" {
		return nil
	}

	t.mu.Lock()
	if !t.begun {
		t.kept = max(t.kept, at)
	}
	kept := t.kept
	t.mu.Unlock()

	r, err := log.Retain(ctx, t.Retainer, kept+1)
	if err != nil {
		return err
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	t.retainer = r
	r.Advance(t.kept + 1) // a checkpoint may have come meanwhile

	return nil
}

// Checkpoint records that the reader no longer needs any record up to index, whatever happens to
// the reader. The retainer then holds only the records after index. A reader that stores its cursor
// calls Checkpoint after the cursor is durable. An index lower than before changes nothing.
func (t *Tail) Checkpoint(index uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = max(t.kept, index)
	if t.retainer != nil {
		t.retainer.Advance(t.kept + 1)
	}
}

// At returns the cursor: the index up to which Next has returned or left out all records.
func (t *Tail) At() uint64 { return t.at }

// End returns the index of the newest durable record when the Tail last opened the log.
func (t *Tail) End() uint64 { return t.end }

// Next returns the next record, and waits until there is one. Between records it returns marks. A
// mark gives the place where the Tail begins (unless Open has found it), or the current place after
// MarkEach records were left out in a row or after all durable records were read. The error of Next
// is one for which Final holds, the cause of ctx, or, with EndWithLog, the error of the log. Next
// may be called again after an error.
func (t *Tail) Next(ctx context.Context) (Item, error) {
	for {
		if ctx.Err() != nil {
			return Item{}, context.Cause(ctx)
		}

		begun := t.begun
		err := t.Open(ctx)
		if err == nil && !begun {
			return t.mark(), nil
		}

		var e eventlog.Entry
		var ok bool
		if err == nil {
			e, ok, err = t.read(ctx)
		}

		switch {
		case err != nil:
			if err := t.lost(ctx, err); err != nil {
				return Item{}, err
			}
		case ok && (len(t.Kinds) == 0 || slices.Contains(t.Kinds, e.Kind)):
			t.at, t.skipped = e.Index, 0
			return Item{Entry: e}, nil
		case ok:
			t.at = e.Index
			if t.skipped++; t.skipped == MarkEach {
				return t.mark(), nil
			}
		case t.skipped > 0:
			return t.mark(), nil
		default:
			t.wait(ctx)
		}
	}
}

// Records returns the records of Next as a sequence, without the marks. The sequence ends with the
// first error.
func (t *Tail) Records(ctx context.Context) iter.Seq2[eventlog.Entry, error] {
	return func(yield func(eventlog.Entry, error) bool) {
		for {
			it, err := t.Next(ctx)
			if !it.Mark && !yield(it.Entry, err) || err != nil {
				return
			}
		}
	}
}

func (t *Tail) mark() Item {
	t.skipped = 0
	return Item{Entry: eventlog.Entry{Index: t.at}, Mark: true}
}

// read returns the next record of the open log. If there is none, it returns at once, except when
// the log itself wakes the Tail and no mark is due: then it waits.
func (t *Tail) read(ctx context.Context) (e eventlog.Entry, ok bool, err error) {
	if t.Bus != nil || t.skipped > 0 {
		return t.cur.TryNext()
	}
	e, err = t.cur.Next(ctx)
	return e, err == nil, err
}

// lost closes the log after an error, and waits until another attempt may succeed. If none will
// succeed, it returns the error.
func (t *Tail) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, eventlog.ErrTruncated) && !errors.Is(err, ErrNoRecord) {
		err = gone(t.at, err)
	}

	t.leave()
	if t.EndWithLog || Final(err) {
		return err
	}

	pause(ctx, t.changed)
	return nil
}

func (t *Tail) leave() {
	if t.cur != nil {
		t.cur.Close()
		t.cur = nil
	}
}

func pause(ctx context.Context, changed <-chan struct{}) {
	again := time.NewTimer(Retry)
	defer again.Stop()

	select {
	case <-changed:
	case <-again.C:
	case <-ctx.Done():
	}
}

// wait waits for news on the bus, for at most Retry, because an agent that hangs sends none. It
// also returns after it has subscribed, because records may have become durable before that.
func (t *Tail) wait(ctx context.Context) {
	if t.news == nil {
		t.subscribe(ctx)
		return
	}

	idle, cancel := context.WithTimeout(ctx, Retry)
	defer cancel()

	if _, err := t.news.Next(idle); err != nil && idle.Err() == nil && !errors.As(err, new(*pubsub.Gap)) {
		t.unsubscribe() // the bus went down
	}
}

// subscribe makes an agent of the bus run the filter. The subscription outlives ctx. ctx and Retry
// limit only the call, because a registry that hangs must not delay records that can be read. If it
// cannot subscribe, it returns after Retry.
func (t *Tail) subscribe(ctx context.Context) {
	sub, stop := context.WithCancel(context.WithoutCancel(ctx))
	bound, cancel := context.WithTimeout(ctx, Retry)
	defer cancel()
	defer context.AfterFunc(bound, stop)()

	news, err := t.Bus.Subscribe(sub, t.Chain, pubsub.DropOldest{Buffer: newsBuffer})
	if err != nil {
		stop()
		pause(bound, nil)
		return
	}

	t.news, t.stop = news, stop
}

func (t *Tail) unsubscribe() {
	if t.news != nil {
		t.news.Close()
		t.stop()
		t.news = nil
	}
}

// Close releases the log, the subscription and the retainer.
func (t *Tail) Close() {
	t.leave()
	t.unsubscribe()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.retainer != nil {
		t.retainer.Release()
	}
}
