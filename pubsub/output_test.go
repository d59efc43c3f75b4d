package pubsub

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// alone returns a subscription whose bus does not run: the test delivers to it.
func alone(t require.TestingT, ctx context.Context, policy Policy) *Subscription[note] {
	bus, err := New[note](Options{})
	require.NoError(t, err)
	in := newIncarnation(bus, 1)
	s := newSubscription(in, nil, policy)
	s.bind(ctx)
	s.agent = in.broker
	return s
}

// Whatever is delivered, and wherever a mailbox or a buffer has no room, each event is read, in
// order, or counted by the gap at its place.
func TestNothingIsMissingInSilence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bound := rapid.IntRange(1, 8).Draw(t, "bound")
		at := 0 // the next number that is to be read or missed
		var out output[note]
		var read func()

		if policy := rapid.SampledFrom([]Policy{nil, Block{bound, time.Hour}, DropOldest{bound}}).Draw(t,
			"policy"); policy == nil {
			m := newMailbox[note](bound)
			out, read = m, func() {
				batch, tail := m.take(nil)
				for _, e := range batch {
					at += int(e.missed)
					require.Equal(t, at, e.event.seq)
					at++
				}
				at += int(tail)
			}
		} else {
			s := alone(t, context.Background(), policy)
			defer s.Close()

			out, read = s, func() {
				e, err, ok := s.next()
				if gap, isGap := err.(*Gap); isGap {
					at += int(gap.Missed)
				} else if ok {
					require.NoError(t, err)
					require.Equal(t, at, e.seq)
					at++
				}
			}
		}

		next := 0
		missed := rapid.Custom(func(t *rapid.T) uint64 {
			return uint64(max(0, rapid.IntRange(-3, 3).Draw(t, "missed")))
		})

		t.Repeat(map[string]func(*rapid.T){
			"deliver": func(t *rapid.T) {
				var batch []entry[note]
				for range rapid.IntRange(0, 10).Draw(t, "events") {
					lost := missed.Draw(t, "lost before")
					next += int(lost)
					batch = append(batch, entry[note]{note{seq: next}, lost})
					next++
				}

				tail := missed.Draw(t, "lost after")
				next += int(tail)
				out.deliver(batch, tail)
			},
			"read": func(*rapid.T) { read() },
		})

		for range 100 {
			read()
		}

		require.Equal(t, next, at)
	})
}

// An agent passes on the gaps that reach it, at their place among the events that match.
func TestAnAgentPassesGapsOn(t *testing.T) {
	odd := Where("odd", func(n note, _ string) bool { return n.seq%2 == 1 }).Is("")
	rapid.Check(t, func(t *rapid.T) {
		var batch, want []entry[note]
		var pending uint64

		for seq := range rapid.IntRange(0, 20).Draw(t, "events") {
			e := entry[note]{note{seq: seq}, uint64(rapid.IntRange(0, 2).Draw(t, "missed"))}
			batch = append(batch, e)
			pending += e.missed
			if seq%2 == 1 {
				want = append(want, entry[note]{e.event, pending})
				pending = 0
			}
		}

		tail := uint64(rapid.IntRange(0, 2).Draw(t, "tail"))
		out := newMailbox[note](100)
		bus, err := New[note](Options{})
		require.NoError(t, err)
		in := newIncarnation(bus, 1)
		newAgent(in, "agent-1", in.broker, odd).handOn([]output[note]{out}, batch, tail)
		got, gotTail := out.take(nil)
		require.Equal(t, want, got)
		require.Equal(t, pending+tail, gotTail)
	})
}

func TestEachEventWakesAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := alone(t, context.Background(), Disconnect{10})
		var wg sync.WaitGroup

		for range 3 {
			wg.Go(func() {
				if _, err := s.Next(context.Background()); err != nil {
					panic(err)
				}
			})
		}

		synctest.Wait() // all of them sleep
		s.deliver(make([]entry[note], 3), 0)
		wg.Wait()
		s.Close()
	})
}

// A timer of Block that fires just as the reader takes an event belongs to a stall that is over.
func TestALateBoundDoesNotEndALaterStall(t *testing.T) {
	s := alone(t, context.Background(), Block{1, time.Hour})
	defer s.Close()

	s.deliver(make([]entry[note], 2), 0) // the first stall
	_, err := s.Next(context.Background())
	require.NoError(t, err)
	s.expire(1)
	require.NoError(t, s.Err(), "no stall")
	s.deliver(make([]entry[note], 2), 0) // the second
	s.expire(1)
	require.NoError(t, s.Err(), "another stall")
	s.expire(2)
	require.ErrorIs(t, s.Err(), ErrSlow)
}

// counting is a context that counts the functions that wait for its end.
type counting struct {
	context.Context
	waiting int
}

func (c *counting) Done() <-chan struct{} { return make(chan struct{}) }

func (c *counting) AfterFunc(func()) (stop func() bool) {
	c.waiting++
	return func() bool { c.waiting--; return true }
}

// However it ends, a subscription releases its context, which may live as long as the program.
func TestASubscriptionThatEndedLetsGoOfItsContext(t *testing.T) {
	for name, end := range map[string]func(s *Subscription[note]){
		"closed": func(s *Subscription[note]) { s.Close() },
		"slow":   func(s *Subscription[note]) { s.deliver(make([]entry[note], 2), 0) },
		"down":   func(s *Subscription[note]) { s.end(ErrDown) },
	} {
		c := &counting{Context: context.Background()}
		s := alone(t, c, Disconnect{1})
		require.Equal(t, 1, c.waiting)
		end(s)
		require.Zero(t, c.waiting, name)
	}
}
