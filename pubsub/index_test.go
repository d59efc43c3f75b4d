package pubsub

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// round is one round of an index's history: agents come and go, then a batch comes.
type round struct {
	Add, Remove int // the value of an agent that is added or removed if it can be
	Events      []struct{ Value, Missed int }
	Tail        int
}

// played is one agent of a history, with what the model says that its output must get.
type played struct {
	out  *mailbox[note]
	want []entry[note]
	tail uint64
}

// play plays the rounds on an index and on the model, in which each agent filters the batch alone.
// match is the index's own match, or a mistaken one.
func play(rounds []round, match func(x *index[note], batch []entry[note], tail uint64)) error {
	x, agents := newIndex(kind), map[string]*played{}
	seq := 0

	for at, r := range rounds {
		add, remove := fmt.Sprint(r.Add), fmt.Sprint(r.Remove)
		if agents[add] == nil {
			p := &played{out: newMailbox[note](1000)}
			a := &agent[note]{}
			a.outputs.add(p.out)
			x.add(add, a)
			agents[add] = p
		}
		if agents[remove] != nil && remove != add {
			if left := x.remove(remove); left != len(agents)-1 {
				return fmt.Errorf("round %d: %d agents are left, expected %d", at, left, len(agents)-1)
			}
			delete(agents, remove)
		}

		var batch []entry[note]
		for _, e := range r.Events {
			seq++
			batch = append(batch, entry[note]{note{kind: fmt.Sprint(e.Value), seq: seq}, uint64(e.Missed)})
		}

		for value, p := range agents {
			p.want, p.tail = nil, 0
			for _, e := range batch {
				p.tail += e.missed
				if e.event.kind == value {
					p.want = append(p.want, entry[note]{e.event, p.tail})
					p.tail = 0
				}
			}
			p.tail += uint64(r.Tail)
		}

		x.read(batch)
		match(x, batch, uint64(r.Tail))
		x.deliver()

		for value, p := range agents {
			if got, tail := p.out.take(nil); !reflect.DeepEqual(got, p.want) || tail != p.tail {
				return fmt.Errorf("round %d: the agent of %s got %v and a gap of %d; expected %v and %d", at, value,
					got, tail, p.want, p.tail)
			}
		}
	}

	return nil
}

var roundLists = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) round {
	value, few := rapid.IntRange(0, 4), rapid.IntRange(0, 2)
	r := round{Add: value.Draw(t, "add"), Remove: value.Draw(t, "remove"), Tail: few.Draw(t, "tail")}
	for range rapid.IntRange(0, 6).Draw(t, "events") {
		r.Events = append(r.Events, struct{ Value, Missed int }{value.Draw(t, "value"), few.Draw(t, "missed")})
	}
	return r
}), 1, 8)

// An index hands on what its agents would hand on if each filtered the events alone: the same
// events, with each gap in its place.
func TestAnIndexAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if err := play(roundLists.Draw(t, "rounds"), (*index[note]).match); err != nil {
			t.Fatal(err)
		}
	})
}

// The model finds an index that gives a gap only to the agent of the event that follows it.
func TestTheModelFindsAGapInTheWrongPlace(t *testing.T) {
	mistaken := func(x *index[note], batch []entry[note], tail uint64) {
		for i, e := range batch {
			if to := x.entries[x.values[i]]; to != nil {
				if to.first == 0 {
					x.told = append(x.told, to)
				}
				x.events.add(to, e)
			}
		}
		for _, to := range x.told {
			to.tail = tail
		}
	}

	for seed := range 1000 {
		if play(roundLists.Example(seed), mistaken) != nil {
			return
		}
	}
	t.Fatal("no history of 1000 showed the gap in the wrong place")
}

// A get that hangs holds up the agents of its attribute under its parent, and nothing else.
func TestAGetThatHangsHoldsItsFamilyOnly(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		held := make(chan struct{})
		hangs := Equal("hangs", func(n note) string {
			if n.seq == 1 {
				<-held
			}
			return n.kind
		})
		behind := w.subscribe(Chain[note]{hangs.Is("k")}, Disconnect{10})
		beside := w.subscribe(Chain[note]{kind.Is("k")}, Disconnect{10})

		w.publish(1, 2)
		w.quiet()
		got, _ := read(beside)
		require.Equal(t, seq(1, 2), got)
		got, _ = read(behind)
		require.Empty(t, got)

		// Others can join meanwhile, also behind the hanging get.
		late, err := w.bus.Subscribe(context.Background(), Chain[note]{hangs.Is("other")}, Disconnect{10})
		require.NoError(t, err)
		defer late.Close()

		close(held)
		w.quiet()
		got, _ = read(behind)
		require.Equal(t, seq(1, 2), got)
	})
}
