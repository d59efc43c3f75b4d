package engines

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// step is one atomic step of a sender or of the receiver of a queue.
type step uint8

const (
	stepPut     step = iota
	stepPost         // a message of the engine to itself
	stepSignal       // the oldest sender that has to wake the receiver does so
	stepQuit         // the newest sender that waits for room gives up
	stepReceive      // the receiver goes on: it takes, begins a message, or looks at wake
	stepLieDown      // of the mistaken receiver only: it falls asleep after it has looked
	steps
)

// history runs the steps on a queue and checks each against a model: the messages that must be
// taken, in order. With mistaken, the receiver looks whether there is anything and falls asleep in
// two steps, which loses the wake-up of a put between the two.
func history(list []step, size int, mistaken bool) error {
	q := newQueue(size)
	var (
		next, postedNext  int
		want, wantPosted  []int
		waiting           []*sender // in the order of arrival
		rousing           int       // senders that have still to signal
		batch             []message
		begun             int
		asleep, lyingDown bool
	)

	for at, s := range list {
		fail := func(format string, args ...any) error {
			return fmt.Errorf("step %d (%d) of %v: %s", at, s, list[:at+1], fmt.Sprintf(format, args...))
		}

		switch s {
		case stepPut:
			msg := message{value: next, sent: 1}
			a, rouse := q.put(&msg)
			if has := len(want) < size && len(waiting) == 0; has != (a == admitted) {
				return fail("%d wait of %d, %d senders; the queue said %d", len(want), size, len(waiting), a)
			}
			if a == full {
				var w *sender
				w, rouse = q.join(&msg)
				if w.entered {
					return fail("a sender overtook others")
				}
				waiting = append(waiting, w)
			} else {
				want = append(want, next)
			}
			next++
			if rouse {
				rousing++
			}

		case stepPost:
			if q.post(postedNext) {
				rousing++
			}
			wantPosted = append(wantPosted, postedNext)
			postedNext++

		case stepSignal:
			if rousing > 0 {
				rousing--
				q.signal()
			}

		case stepQuit:
			if n := len(waiting); n > 0 {
				if q.quit(waiting[n-1]) {
					return fail("a message entered a full queue")
				}
				waiting = waiting[:n-1]
			}

		case stepLieDown:
			if lyingDown {
				lyingDown, asleep = false, true
				q.mu.Lock()
				q.asleep = true
				q.mu.Unlock()
			}

		case stepReceive:
			if lyingDown {
				continue
			}
			if asleep {
				select {
				case <-q.wake:
					asleep = false
				default:
				}
				continue
			}

			if begun < len(batch) {
				got := batch[begun].value.(int)
				begun++
				if len(want) == 0 || want[0] != got {
					return fail("got %d; expected the first of %v", got, want)
				}
				want = want[1:]
				q.begin(len(batch) - begun)
			} else {
				var posted []any
				batch, posted = q.take(batch)
				begun = 0
				for _, v := range posted {
					if len(wantPosted) == 0 || v.(int) != wantPosted[0] {
						return fail("got post %v; expected the first of %v", v, wantPosted)
					}
					wantPosted = wantPosted[1:]
				}
				if none := len(batch) == 0 && posted == nil; none && mistaken {
					lyingDown = true
					q.mu.Lock()
					q.asleep = false
					q.mu.Unlock()
				} else {
					asleep = none
				}
			}

			for len(waiting) > 0 && waiting[0].entered {
				want = append(want, waiting[0].msg.value.(int))
				waiting = waiting[1:]
			}
		}

		if n := q.waiting(); n != len(want) || n > size {
			return fail("%d wait; expected %d, at most %d", n, len(want), size)
		}
		if len(waiting) > 0 && len(want) < size {
			return fail("%d senders wait, although there is room", len(waiting))
		}
		// The wake-up: a receiver that sleeps while something waits has a token, or will get one.
		if asleep && len(want)+len(wantPosted) > 0 && len(q.wake) == 0 && rousing == 0 {
			return fail("the receiver sleeps for ever")
		}
	}

	return nil
}

var stepLists = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
	return step(rapid.IntRange(0, int(steps)-1).Draw(t, "step"))
}), 1, 60)

// The queue agrees with its model at each interleaving of the steps of senders and receiver: order,
// bound, fairness, and no wake-up is lost.
func TestTheSleepOfAMailboxAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list, size := stepLists.Draw(t, "steps"), rapid.IntRange(1, 4).Draw(t, "size")
		if err := history(list, size, false); err != nil {
			t.Fatal(err)
		}
	})
}

// The model finds a receiver that loses a wake-up because it looks and falls asleep in two steps.
func TestTheModelFindsALostWakeUp(t *testing.T) {
	for seed := range 2000 {
		if err := history(stepLists.Example(seed), 2, true); err != nil {
			require.ErrorContains(t, err, "sleeps for ever")
			return
		}
	}
	t.Fatal("no history of 2000 showed the lost wake-up")
}

// Many senders on a small queue, and posts: each message comes once, those of one sender in order.
func TestAQueueUnderLoad(t *testing.T) {
	const senders, each = 8, 2000
	ctx := t.Context()
	q := newQueue(3)
	var all sync.WaitGroup

	for s := range senders {
		all.Go(func() {
			for i := range each {
				if s == 0 {
					if q.post([2]int{s, i}) {
						q.signal()
					}
					continue
				}

				msg := message{value: [2]int{s, i}}
				a, rouse := q.put(&msg)
				if a == full {
					w, again := q.join(&msg)
					if again {
						q.signal()
					}
					select {
					case <-w.resolved:
					case <-ctx.Done():
						return
					}
				} else if rouse {
					q.signal()
				}
			}
		})
	}

	next := make([]int, senders)
	check := func(v any) {
		p := v.([2]int)
		require.Equal(t, next[p[0]], p[1], "of sender %d", p[0])
		next[p[0]]++
	}

	var batch []message
	for got := 0; got < senders*each; {
		var posted []any
		batch, posted = q.take(batch)
		got += len(batch) + len(posted)
		for _, v := range posted {
			check(v)
		}
		for i := range batch {
			q.begin(len(batch) - i - 1)
			check(batch[i].value)
		}

		if len(batch)+len(posted) == 0 {
			select {
			case <-q.wake:
			case <-ctx.Done():
				t.Fatal("a wake-up was lost")
			}
		}
	}

	all.Wait()
	require.Equal(t, slices.Repeat([]int{each}, senders), next)
}
