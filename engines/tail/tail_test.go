package tail_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/tail"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor"
)

// A tail reads the existing records, and then each record as it becomes durable. Fake time does not
// pass, so every wake-up came from the bus or the log, and none from looking again.
func TestCatchUpThenLive(t *testing.T) {
	both(t, func(h *home, onBus bool) {
		began := time.Now()
		h.append(many(3, launched)...)
		r := h.tail(onBus, tail.Options{})
		require.NoError(h.t, r.Open(context.Background()))
		for i := range uint64(3) {
			next(h.t, r, i+1, false)
		}

		for i := range uint64(50) {
			got := make(chan tail.Item, 1)
			go func() {
				it, _ := r.Next(context.Background())
				got <- it
			}()
			if i%2 == 0 {
				synctest.Wait() // the tail waits, or is about to
			}
			h.append(launched)
			require.Equal(h.t, i+4, (<-got).Index)
		}
		require.Zero(h.t, time.Since(began))
	})
}

// hooked is a filter that runs a hook when a subscriber first asks for it.
type hooked struct {
	pubsub.Filter[engines.Event]
	once sync.Once
	do   func()
}

func (f *hooked) Key() string {
	f.once.Do(f.do)
	return f.Filter.Key()
}

// A record that becomes durable between the last look and the subscription is not news. The tail
// must find it by a look after the subscription.
func TestARecordJustBeforeTheSubscription(t *testing.T) {
	inBubble(t, func(h *home) {
		began := time.Now()
		r := h.tail(true, tail.Options{})
		r.Chain = pubsub.Chain[engines.Event]{&hooked{Filter: byKinds(nil), do: func() {
			h.append(launched)
			synctest.Wait() // its news has been published without a subscriber
		}}}
		require.NoError(h.t, r.Open(context.Background()))
		next(h.t, r, 1, false)
		require.Zero(h.t, time.Since(began))
	})
}

// A tail that is not told where to begin returns its place as a mark.
func TestWhereATailBegins(t *testing.T) {
	both(t, func(h *home, onBus bool) {
		h.append(many(3, launched)...)

		r := h.tail(onBus, tail.Options{})
		next(h.t, r, 0, true)
		next(h.t, r, 1, false)

		r = h.tail(onBus, tail.Options{After: 2})
		require.NoError(h.t, r.Open(context.Background()))
		next(h.t, r, 3, false)

		r = h.tail(onBus, tail.Options{FromNow: true})
		next(h.t, r, 3, true)
		h.append(launched)
		next(h.t, r, 4, false)
	})
}

func TestKindsAndMarks(t *testing.T) {
	both(t, func(h *home, onBus bool) {
		h.append(launched, committed, launched, launched)
		r := h.tail(onBus, tail.Options{Kinds: []eventlog.Kind{committed}})
		require.NoError(h.t, r.Open(context.Background()))
		next(h.t, r, 2, false)
		next(h.t, r, 4, true) // before it waits, it returns its place

		h.append(launched, launched, committed)
		next(h.t, r, 7, false)

		// A mark also comes after MarkEach records, so that a reader's cursor does not stay behind.
		l, err := h.now()
		require.NoError(h.t, err)
		empty := make([]eventlog.Record, 1000)
		for i := range empty {
			empty[i].Kind = launched
		}
		for range 2 * tail.MarkEach / len(empty) {
			_, err := l.AppendNoSync(context.Background(), empty...)
			require.NoError(h.t, err)
		}
		h.append(launched, committed)
		next(h.t, r, 7+tail.MarkEach, true)
		next(h.t, r, 7+2*tail.MarkEach, true)
		next(h.t, r, 7+2*tail.MarkEach+2, false)
	})
}

// Records leaves the marks out, and ends with the first error.
func TestRecords(t *testing.T) {
	both(t, func(h *home, onBus bool) {
		h.append(launched, committed, launched, committed, launched)
		r := h.tail(onBus, tail.Options{Kinds: []eventlog.Kind{committed}})
		ctx, cancel := context.WithTimeoutCause(context.Background(), time.Hour, errors.New("enough"))
		defer cancel()

		var got []uint64
		var end error
		for e, err := range r.Records(ctx) {
			if end = err; err == nil {
				got = append(got, e.Index)
			}
		}
		require.Equal(h.t, []uint64{2, 4}, got)
		require.ErrorContains(h.t, end, "enough")

		h.append(committed)
		for e, err := range r.Records(context.Background()) {
			require.NoError(h.t, err)
			require.EqualValues(h.t, 6, e.Index)
			break
		}
	})
}

// The end of a context ends only that call, and loses nothing.
func TestAContextEnds(t *testing.T) {
	both(t, func(h *home, onBus bool) {
		r := h.tail(onBus, tail.Options{})
		require.NoError(h.t, r.Open(context.Background()))
		why := errors.New("enough")
		for i := range uint64(5) {
			ctx, cancel := context.WithTimeoutCause(context.Background(), 3*time.Second, why)
			_, err := r.Next(ctx)
			cancel()
			require.ErrorIs(h.t, err, why)
			h.append(launched)
			next(h.t, r, i+1, false)
		}

		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(why)
		h.append(launched)
		_, err := r.Next(ctx)
		require.ErrorIs(h.t, err, why, "what is there is not read either")
		next(h.t, r, 6, false)
	})
}

func TestMissingRecordsAreAnError(t *testing.T) {
	both(t, func(h *home, onBus bool) {
		h.append(many(100, launched)...)
		slow := h.tail(onBus, tail.Options{})
		require.NoError(h.t, slow.Open(context.Background()))
		next(h.t, slow, 1, false)
		first := h.truncate(80)
		require.Greater(h.t, first, uint64(30))

		r := h.tail(onBus, tail.Options{After: first - 2})
		for range 2 { // the error stays
			_, err := r.Next(context.Background())
			require.ErrorIs(h.t, err, tail.ErrNoRecord)
			require.ErrorIs(h.t, err, eventlog.ErrTruncated)
			require.ErrorContains(h.t, err, fmt.Sprintf("no such record: %d:", first-1))
			require.True(h.t, tail.Final(err))
		}

		r = h.tail(onBus, tail.Options{}) // from any place
		next(h.t, r, first-1, true)
		next(h.t, r, first, false)

		for _, after := range []uint64{101, math.MaxUint64} {
			_, err := h.tail(onBus, tail.Options{After: after}).Next(context.Background())
			require.ErrorIs(h.t, err, tail.ErrBeyond)
			require.ErrorContains(h.t, err, "the log ends at 100")
			require.True(h.t, tail.Final(err))
		}

		// Truncation overtakes a reader, which can still read its segment to the end.
		last := uint64(1)
		for {
			it, err := slow.Next(context.Background())
			if err != nil {
				require.ErrorIs(h.t, err, tail.ErrNoRecord)
				require.ErrorContains(h.t, err, fmt.Sprintf("no such record: %d:", last+1))
				break
			}
			require.Equal(h.t, last+1, it.Index)
			last = it.Index
		}
		require.Less(h.t, last, first-1)
	})
}

// No record was read yet from record 1 on, and then record 1 was truncated. The tail must not begin
// later instead.
func TestATailThatHasBegunBeginsNoSecondTime(t *testing.T) {
	both(t, func(h *home, onBus bool) {
		h.append(many(50, launched)...)
		r := h.tail(onBus, tail.Options{})
		require.NoError(h.t, r.Open(context.Background()))
		require.Greater(h.t, h.truncate(50), uint64(1))
		h.close()
		h.open()
		_, err := r.Next(context.Background())
		require.ErrorIs(h.t, err, tail.ErrNoRecord)
	})
}

// A gap is an error that names its place. A tail that begins after it reads on.
func TestAGapIsAnError(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	b, err := eventlog.NewBuilder(dir, eventlog.Options{})
	require.NoError(t, err)
	require.NoError(t, b.Append(eventlog.Record{Kind: launched}))
	require.NoError(t, b.Lost(5, "a test"))
	require.NoError(t, b.Append(eventlog.Record{Kind: launched}))
	require.NoError(t, b.Finish())
	l, err := eventlog.OpenReadOnly(dir, eventlog.Options{})
	require.NoError(t, err)
	defer l.Close()

	h := &home{t: t, log: l}
	r := h.tail(false, tail.Options{})
	next(t, r, 0, true)
	next(t, r, 1, false)
	_, err = r.Next(t.Context())
	damage := new(eventlog.CorruptError)
	require.ErrorAs(t, err, &damage)
	require.True(t, damage.Gap)
	require.True(t, tail.Final(err))
	require.EqualValues(t, 1, r.At())

	r = h.tail(false, tail.Options{After: damage.Index + damage.Lost - 1})
	require.NoError(t, r.Open(t.Context()))
	next(t, r, 7, false)
}

// The retainer's floor is the checkpoint, and not where the tail is.
func TestARetainerHoldsWhatWasNotCheckpointed(t *testing.T) {
	both(t, func(h *home, onBus bool) {
		h.append(many(100, launched)...)
		floor := func() (uint64, bool) {
			s, err := h.Stat(context.Background())
			require.NoError(h.t, err)
			for _, r := range s.Retainers {
				if r.Name == "sink" {
					return r.Floor, true
				}
			}
			return 0, false
		}

		free := h.tail(onBus, tail.Options{})
		require.NoError(h.t, free.Open(context.Background()))
		_, held := floor()
		require.False(h.t, held, "without a name nothing is held back")
		free.Close()

		r := h.tail(onBus, tail.Options{After: 10, Retainer: "sink"})
		require.NoError(h.t, r.Open(context.Background()))
		for i := range uint64(90) {
			next(h.t, r, i+11, false)
		}
		require.LessOrEqual(h.t, h.truncate(100), uint64(11))

		r.Checkpoint(50)
		r.Checkpoint(40) // a checkpoint never goes back
		at, _ := floor()
		require.EqualValues(h.t, 51, at)
		first := h.truncate(100)
		require.Greater(h.t, first, uint64(11))
		require.LessOrEqual(h.t, first, uint64(51))

		// A reader that begins again at its checkpoint has every record.
		again := h.tail(onBus, tail.Options{After: 50, Retainer: "sink"})
		require.NoError(h.t, again.Open(context.Background()))
		r.Close() // the earlier reader's retainer was taken over: it releases nothing
		at, held = floor()
		require.True(h.t, held)
		require.EqualValues(h.t, 51, at)
		next(h.t, again, 51, false)

		// The next incarnation of the log has the checkpoint as well.
		next(h.t, again, 52, false)
		next(h.t, again, 53, false)
		h.close()
		again.Checkpoint(51)
		h.open()
		next(h.t, again, 54, false)
		at, _ = floor()
		require.EqualValues(h.t, 52, at)

		again.Close()
		_, held = floor()
		require.False(h.t, held)
		h.append(launched)
		require.Greater(h.t, h.truncate(100), uint64(52))
	})
}

// A tail survives the end of its log, whether it reads, waits or has not begun, and continues after
// the last record that it read.
func TestTheLogComesBack(t *testing.T) {
	both(t, func(h *home, onBus bool) {
		h.append(many(3, launched)...)
		r := h.tail(onBus, tail.Options{})
		require.NoError(h.t, r.Open(context.Background()))
		next(h.t, r, 1, false)
		h.close()
		h.open()
		next(h.t, r, 2, false)
		next(h.t, r, 3, false)

		late := h.tail(onBus, tail.Options{After: 2})
		items := make(chan tail.Item)
		for _, reader := range []*tail.Tail{r, late} {
			go func() {
				for e, err := range reader.Records(context.Background()) {
					if err != nil || e.Index == 5 {
						items <- tail.Item{Entry: e}
						return
					}
				}
			}()
		}
		synctest.Wait()
		h.close()
		<-time.After(time.Minute)
		h.open()
		h.append(launched, launched)
		require.EqualValues(h.t, 5, (<-items).Index)
		require.EqualValues(h.t, 5, (<-items).Index)
	})
}

// Changed makes a tail look at the log at once.
func TestChanged(t *testing.T) {
	inBubble(t, func(h *home) {
		h.append(launched)
		h.close()
		r := h.tail(false, tail.Options{Changed: func() <-chan struct{} {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.changed
		}})
		require.ErrorIs(h.t, r.Open(context.Background()), errDown)

		got := make(chan error, 1)
		go func() {
			_, err := r.Next(context.Background())
			got <- err
		}()
		synctest.Wait()
		began := time.Now()
		h.open()
		require.NoError(h.t, <-got)
		require.Zero(h.t, time.Since(began))
	})
}

func TestEndWithLog(t *testing.T) {
	both(t, func(h *home, onBus bool) {
		h.append(launched)
		r := h.tail(onBus, tail.Options{EndWithLog: true})
		require.NoError(h.t, r.Open(context.Background()))
		next(h.t, r, 1, false)
		ended := make(chan error, 1)
		go func() {
			_, err := r.Next(context.Background())
			ended <- err
		}()
		synctest.Wait()
		h.close()
		err := <-ended
		require.ErrorIs(h.t, err, eventlog.ErrClosed)
		require.False(h.t, tail.Final(err))
	})
}

// A bus that is down, or whose registry hangs, only makes a tail slow.
func TestTheBusIsNotNeeded(t *testing.T) {
	t.Run("down", func(t *testing.T) {
		inBubble(t, func(h *home) {
			require.NoError(h.t, h.run.Stop(context.Background()))
			h.append(launched)
			r := h.tail(true, tail.Options{After: 0})
			require.NoError(h.t, r.Open(context.Background()))
			next(h.t, r, 1, false)
			time.AfterFunc(10*time.Second, func() { h.append(launched) })
			began := time.Now()
			next(h.t, r, 2, false)
			require.LessOrEqual(h.t, time.Since(began), 10*time.Second+tail.Retry)
		})
	})

	t.Run("hanging", func(t *testing.T) {
		inBubble(t, func(h *home) {
			release := make(chan struct{})
			defer close(release)
			require.NoError(h.t, h.run.Inject(context.Background(), "registry",
				supervisor.Fault{Name: "hang", Do: func(context.Context) { <-release }}))
			synctest.Wait()

			r := h.tail(true, tail.Options{After: 0})
			require.NoError(h.t, r.Open(context.Background()))
			time.AfterFunc(10*time.Second, func() { h.append(launched) })
			began := time.Now()
			next(h.t, r, 1, false)
			require.LessOrEqual(h.t, time.Since(began), 10*time.Second+tail.Retry)
		})
	})
}

// A tail whose bus restarted subscribes again, and is then woken at once, as before.
func TestTheBusComesBack(t *testing.T) {
	inBubble(t, func(h *home) {
		r := h.tail(true, tail.Options{})
		require.NoError(h.t, r.Open(context.Background()))
		for i := range uint64(3) {
			got := make(chan tail.Item)
			go func() {
				for range 2 {
					it, _ := r.Next(context.Background())
					got <- it
				}
			}()
			synctest.Wait()
			require.NoError(h.t, h.run.Kill("broker", errors.New("a test")))
			<-time.After(2 * tail.Retry)
			synctest.Wait()

			began := time.Now()
			h.append(launched)
			require.Equal(h.t, 2*i+1, (<-got).Index)
			h.append(launched)
			require.Equal(h.t, 2*i+2, (<-got).Index)
			require.Zero(h.t, time.Since(began))
		}
	})
}

// Tails of all kinds read beside writers, while the log and the bus end and come back. Each sees
// each record of its kinds once, in order.
func TestNothingIsLostUnderRestarts(t *testing.T) {
	const (
		records = 1_200
		writers = 3
	)
	kinds := []eventlog.Kind{launched, committed}
	h := newHome(t, eventlog.Options{SegmentSize: 64 << 10, MaxRecord: 8 << 10})

	var all sync.WaitGroup
	var written sync.RWMutex // held while the log restarts
	for w := range writers {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			for range records / writers {
				written.RLock()
				l, err := h.now()
				if err == nil {
					_, err = l.AppendWait(context.Background(), eventlog.Record{Kind: kinds[rng.IntN(2)]})
				}
				written.RUnlock()
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}

	for i := range 8 {
		o := tail.Options{Changed: func() <-chan struct{} {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.changed
		}}
		if i >= 4 {
			o.Kinds, o.Retainer = kinds[i%2:i%2+1], fmt.Sprint("tail ", i)
		}
		r := h.tail(i%4 < 2, o)

		all.Go(func() {
			var last uint64
			for last < records {
				it, err := r.Next(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				if it.Index < last || it.Index == last && !it.Mark || o.Kinds == nil && it.Index > last+1 {
					t.Errorf("tail %d: %d (mark: %v) after %d", i, it.Index, it.Mark, last)
					return
				}
				last = it.Index
				r.Checkpoint(last)
			}
		})
	}

	done := make(chan struct{})
	all.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
			if i%2 == 0 {
				written.Lock()
				h.close()
				h.open()
				written.Unlock()
				continue
			}
			_ = h.run.Kill("broker", errors.New("a test")) // it may be down already
		}
	})

	stop := time.AfterFunc(300*time.Millisecond, func() { close(done) })
	defer stop.Stop()
	all.Wait()

	// The tails returned exactly the records that their filters match.
	for _, kind := range kinds {
		l, err := h.now()
		require.NoError(t, err)
		want, got := 0, 0
		for index := l.First(); index <= l.Durable(); index++ {
			if e, err := l.Read(index); err == nil && e.Kind == kind {
				want++
			}
		}
		r := h.tail(false, tail.Options{Kinds: []eventlog.Kind{kind}})
		for r.At() < records {
			it, err := r.Next(t.Context())
			require.NoError(t, err)
			if !it.Mark {
				got++
			}
		}
		require.Equal(t, want, got)
	}
}
