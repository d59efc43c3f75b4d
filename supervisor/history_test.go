package supervisor

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// turn is one step of one of three writers: it adds an event, or with a mistaken hub takes its
// number in one step and adds the event in another.
type turn struct {
	Writer, Kind, Path, Back int
}

// played is the hub of a history of turns, with what the model says that it must have.
type played struct {
	hub     *hub
	sub     *subscription
	mistake bool
	held    map[int]func() // the second step of a writer
	want    []Event
	now     time.Time
}

var playedPaths = []string{"", "a", "a/b", "ab"}

// begin makes the first step of a writer, and returns the second one.
func (p *played) begin(t turn) (finish func()) {
	path := playedPaths[t.Path]
	inc := &incarnation{id: uint64(len(p.want) + 1), path: path, began: p.now, closing: &closing{}}
	inc.closing.exit = Exit{Err: errors.New(path), Duration: time.Duration(t.Back)}
	now := p.now.Add(-time.Duration(t.Back)) // the clock was read a while ago
	h, made := p.hub, []Event(nil)
	head := func(inc uint64) Header { return Header{Root: "r", Path: path, Incarnation: inc} }

	add := func() {}
	switch t.Kind {
	case 0:
		add, made = func() { h.noteStarting(inc, now) }, []Event{ChildStarting{head(inc.id)}}
	case 1:
		add = func() { h.noteStarted(inc, true, inc, now) }
		made = []Event{ChildStarted{head(inc.id), true, now.Sub(p.now)}, ChildStarting{head(inc.id)}}
	case 2:
		add = func() { h.noteExited(inc, Transient, true, now) }
		made = []Event{ChildExited{head(inc.id), *inc.exit(), Transient, true}}
	case 3:
		add, made = func() { h.noteStopped(inc, now) }, []Event{ChildStopped{head(inc.id), *inc.exit()}}
	case 4:
		add = func() { h.noteScheduled(path, 3, 4, 5, now) }
		made = []Event{RestartScheduled{head(0), 3, 4, 5}}
	default:
		add = func() { h.emit(path, 7, func(hd Header) Event { return Warned{hd, "w"} }) }
		made = []Event{Warned{head(7), "w"}}
	}

	if !p.mistake {
		return func() { add(); p.want = append(p.want, made...) }
	}

	h.seq++ // the mistake: the number is taken here, and the event is added later
	seq := h.seq
	return func() {
		e := h.history.next()
		e.seq, e.at, e.kind, e.path, e.incarnation = seq, p.now, entryStarting, path, inc.id
		h.pass(e)
		p.want = append(p.want, made...)
	}
}

// play plays the turns and compares the hub with the model after each.
func play(turns []turn, mistake bool) error {
	p := &played{hub: newHub("r"), mistake: mistake, held: map[int]func(){}, now: time.Unix(1, 0)}
	p.hub.history.size = 5
	p.hub.reports.sub = nil
	p.sub, _ = p.hub.subscribe(ObserverFunc(func(Event) {}), "a")
	p.sub.lane.pumping = true // the test reads the queue itself

	for at, t := range turns {
		if finish := p.held[t.Writer]; finish != nil {
			finish()
			delete(p.held, t.Writer)
		} else {
			p.held[t.Writer] = p.begin(t)
		}
		p.now = p.now.Add(time.Duration(t.Back))

		if err := p.check(); err != nil {
			return fmt.Errorf("turn %d of %v: %w", at, turns[:at+1], err)
		}
	}

	return nil
}

// check compares what readers and observers get with the model.
func (p *played) check() error {
	for _, prefix := range playedPaths {
		newest := p.want[max(0, len(p.want)-p.hub.history.size):]
		if err := p.same(p.hub.past(prefix), newest, len(p.want)-len(newest), prefix); err != nil {
			return fmt.Errorf("the history below %q: %w", prefix, err)
		}
	}

	var queued []Event
	for i := range p.sub.queue {
		queued = append(queued, p.sub.queue[i].event("r"))
	}
	if err := p.same(queued, p.want, 0, "a"); err != nil {
		return fmt.Errorf("the queue of an observer: %w", err)
	}
	return nil
}

// same compares events with those of the model below prefix, of which so many come before.
func (p *played) same(got, want []Event, before int, prefix string) error {
	var last Header
	at := 0

	for i, w := range want {
		if !within(w.Head().Path, prefix) {
			continue
		}
		if at == len(got) {
			return fmt.Errorf("%d events, expected more: %v", len(got), want)
		}

		h := got[at].Head()
		if h.Seq != uint64(before+i+1) || h.Seq <= last.Seq || h.Time.Before(last.Time) {
			return fmt.Errorf("event %d has number %d and time %v, after %d and %v", at, h.Seq, h.Time, last.Seq,
				last.Time)
		}
		if plain := withoutPlace(got[at]); !reflect.DeepEqual(plain, w) {
			return fmt.Errorf("event %d is %#v; expected %#v", at, plain, w)
		}
		last = h
		at++
	}

	if at != len(got) {
		return fmt.Errorf("%d events, expected %d", len(got), at)
	}
	return nil
}

// withoutPlace returns the event without its number and time.
func withoutPlace(e Event) Event {
	v := reflect.New(reflect.TypeOf(e)).Elem()
	v.Set(reflect.ValueOf(e))
	h := v.FieldByName("Header").Addr().Interface().(*Header)
	h.Seq, h.Time = 0, time.Time{}
	return v.Interface().(Event)
}

var turnLists = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) turn {
	return turn{Writer: rapid.IntRange(0, 2).Draw(t, "writer"), Kind: rapid.IntRange(0, 5).Draw(t, "kind"),
		Path: rapid.IntRange(0, len(playedPaths)-1).Draw(t, "path"), Back: rapid.IntRange(0, 3).Draw(t, "back")}
}), 1, 40)

// The ring of events agrees with its model: the newest events in order, each with what it was made
// of, for readers and for observers. Numbers have no gap, and times do not go back.
func TestTheRingOfEventsAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if err := play(turnLists.Draw(t, "turns"), false); err != nil {
			t.Fatal(err)
		}
	})
}

// The model finds a hub that takes the number of an event and adds the event in two steps.
func TestTheModelFindsAnEventOutOfOrder(t *testing.T) {
	for seed := range 1000 {
		turns := turnLists.Example(seed)
		for i := range turns {
			turns[i].Kind = 0 // a start, so that nothing but the order is wrong
		}
		if err := play(turns, true); err != nil {
			require.ErrorContains(t, err, "has number")
			return
		}
	}
	require.Fail(t, "no history of 1000 showed the event out of order")
}
