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
	// ErrNoRecord means that the event log does not have the record any more.
	ErrNoRecord = errors.New("no such record")

	// ErrBeyond means that no reader of this log was given the cursor.
	ErrBeyond = errors.New("cursor lies beyond the log's end")
)

// Final reports whether err is an error that waiting does not mend: records are missing or damaged.
func Final(err error) bool {
	return errors.Is(err, ErrNoRecord) || errors.Is(err, ErrBeyond) || errors.Is(err, eventlog.ErrCorrupt)
}

const (
	// Retry is how long a Tail waits at most before it looks at the log again, even if nothing
	// wakes it.
	Retry = 500 * time.Millisecond

	// MarkEach is the number of records left out in a row after which Next returns a mark.
	MarkEach = 10_000

	// newsBuffer is the number of news that may wait for a Tail that reads. Older ones are dropped,
	// because the records come from the log.
	newsBuffer = 16
)

// Log is what a Tail needs of the logger. logger.Client is one.
type Log interface {
	// Cursor reads durable records from the index on. It ends with the logger's incarnation.
	Cursor(ctx context.Context, from uint64) (*eventlog.Cursor, error)
	Stat(ctx context.Context) (eventlog.Stat, error)
	Retain(ctx context.Context, name string, floor uint64) (*eventlog.Retainer, error)
}

// Options of a Tail. Only Log is needed.
type Options struct {
	// Log returns the log that is open now, or why there is none.
	Log func() (Log, error)

	// After is the cursor: the first record is the one behind it. 0 begins with the oldest record
	// that is kept. FromNow, instead, begins behind the record that is the newest durable one when
	// the Tail first opens the log.
	After   uint64
	FromNow bool

	Kinds []eventlog.Kind // the records that Next returns; nil: all

	// Bus wakes the Tail with events that match Chain, which must match the news of every record of
	// Kinds. If it is nil, the log itself wakes the Tail.
	Bus   *pubsub.Bus[engines.Event]
	Chain pubsub.Chain[engines.Event]

	// Changed returns a channel that is closed when a log that is down may have come up. nil: the
	// Tail looks after each Retry.
	Changed func() <-chan struct{}

	// EndWithLog makes Next return the error of a log that has closed. Without it, Next waits for
	// the log's next incarnation.
	EndWithLog bool

	// Retainer is the name under which the Tail holds back the truncation of records behind the
	// last checkpoint, at first of those behind After. "": it holds none back.
	Retainer string
}

// Item is a record or a mark.
type Item struct {
	eventlog.Entry // Data is valid until the next call of Next

	// Mark says that there is no record, only an Index: all records up to it were returned, or are
	// not of Options.Kinds.
	Mark bool
}

// Tail is a reader of the event log. One goroutine may use it at a time, but Checkpoint may be
// called from any. It must be closed.
type Tail struct {
	Options

	cur     *eventlog.Cursor // nil: the log is not open
	changed <-chan struct{}  // of the last attempt to open it
	begun   bool             // at is where the Tail is in the log, and not Options.After
	at      uint64           // all records up to it were returned or left out
	end     uint64           // the newest durable record when the log was opened
	skipped int              // left out since the last item

	news *pubsub.Subscription[engines.Event] // nil: not subscribed
	stop context.CancelFunc                  // ends news

	mu       sync.Mutex
	kept     uint64 // the last checkpoint
	retainer *eventlog.Retainer
}

// New returns a Tail that has not opened the log yet.
func New(o Options) *Tail { return &Tail{Options: o, at: o.After} }

// Open opens the log at the cursor, once and without waiting for a log that is down. Next does the
// same when it is needed; Open is for readers that want to see the error, or At, before.
func (t *Tail) Open(ctx context.Context) error {
	if t.cur != nil {
		return nil
	}
	if t.Changed != nil {
		t.changed = t.Changed() // before the attempt, so that a log that comes up during it is not missed
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
		}

		if end := readable(st); at > end {
			return fmt.Errorf("%w: cursor %d, and the log ends at %d: this log is not the one that it came from; "+
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
		} // it was truncated meanwhile
	}
}

// readable is the newest record that a reader can have: a segment shows it just before the log
// calls it durable.
func readable(st eventlog.Stat) uint64 {
	end := st.Durable
	for _, s := range st.Segments {
		end = max(end, s.Last)
	}
	return end
}

func gone(at uint64, err error) error { return fmt.Errorf("%w: %d: %w", ErrNoRecord, at+1, err) }

// hold registers the retainer with a log that is about to be read behind at.
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

// Checkpoint says that the reader needs no record up to index any more, whatever happens to it. The
// retainer then holds only the records behind index. A reader that keeps its cursor durable calls
// it afterwards. A lower index than before changes nothing.
func (t *Tail) Checkpoint(index uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = max(t.kept, index)
	if t.retainer != nil {
		t.retainer.Advance(t.kept + 1)
	}
}

// At returns the index up to which all records were returned or left out: the cursor.
func (t *Tail) At() uint64 { return t.at }

// End returns the index of the record that was the newest durable one when the Tail last opened the
// log.
func (t *Tail) End() uint64 { return t.end }

// Next returns the next record, waiting until there is one. Between records it returns marks: the
// place where the Tail begins if Open has not found it, and where it is when it has left out
// MarkEach records in a row or has read all that is durable. Errors are those for which Final
// holds, ctx's cause, and, with EndWithLog, that of the log. Next may be called again after an
// error.
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

// Records is Next as a sequence without the marks. It ends with the first error.
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

// read returns the next record of the open log. If there is none it returns at once, unless the log
// itself is to wake the Tail and nothing is to be told first.
func (t *Tail) read(ctx context.Context) (e eventlog.Entry, ok bool, err error) {
	if t.Bus != nil || t.skipped > 0 {
		return t.cur.TryNext()
	}
	e, err = t.cur.Next(ctx)
	return e, err == nil, err
}

// lost gives up the log after an error, and waits until another attempt may succeed. It returns the
// error if none will.
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

// wait returns when the bus has news, after Retry at the latest: an agent that hangs sends none. It
// also returns when it has subscribed, because records may have become durable before that.
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

// subscribe has an agent of the bus run the filter. The subscription outlives ctx, which bounds
// only the call, as Retry does: a registry that hangs must not hold up what can be read. Without a
// subscription, subscribe returns after Retry.
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

// Close gives up the log, the subscription and the retainer.
func (t *Tail) Close() {
	t.leave()
	t.unsubscribe()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.retainer != nil {
		t.retainer.Release()
	}
}
