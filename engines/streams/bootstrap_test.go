package streams

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// copies are the snapshots of a rig. Each has the state that the blocks up to a height make.
type copies struct {
	r     *rig
	at    []stateCopy
	holds map[string]int
}

type stateCopy struct {
	SnapshotAt
	state map[string]string
}

// take makes a snapshot of the rig's state now.
func (c *copies) take(state map[string]string) {
	h := c.r.height
	c.at = append(c.at, stateCopy{SnapshotAt{ChainID: "c", Position: Position{Height: h},
		BlockHash: fmt.Append(nil, "block", h), AppHash: fmt.Append(nil, "app", h), LogID: logID(c.r.log),
		Index: c.r.log.Durable()}, maps.Clone(state)})
}

func (c *copies) Pick(_ context.Context, height uint64) (string, func(), error) {
	for _, s := range slices.Backward(c.at) {
		if height == 0 || s.Height == height {
			return fmt.Sprint(s.Index), func() {}, nil
		}
	}
	return "", nil, ErrNoSnapshot
}

func (c *copies) Open(_ context.Context, id string) (Snapshot, error) {
	for _, s := range c.at {
		if fmt.Sprint(s.Index) == id {
			return s, nil
		}
	}
	return nil, ErrNoSnapshot
}

func (s stateCopy) At() SnapshotAt { return s.SnapshotAt }
func (s stateCopy) Close() error   { return nil }

func (s stateCopy) Keys(after []byte, f func(key, value []byte) bool) error {
	for _, k := range slices.Sorted(maps.Keys(s.state)) {
		if k > string(after) && !f([]byte(k), []byte(s.state[k])) {
			return nil
		}
	}
	return nil
}

// newer is a generation that a place does not show yet.
type newer struct {
	id     string
	chunks map[int][]Event
}

func (s *testSink) Bootstrap(_ context.Context, id string) (map[int]bool, bool, error) {
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	if s.to.next == nil || s.to.next.id != id {
		s.to.next = &newer{id, make(map[int][]Event)}
	}
	done := make(map[int]bool)
	for n := range s.to.next.chunks {
		done[n] = true
	}
	return done, s.to.generation == id, s.failing("bootstrap")
}

func (s *testSink) Chunk(ctx context.Context, c Chunk, d Delivery) error {
	if err := s.failing("chunk"); err != nil {
		return err
	}
	var events []Event
	for {
		e, err := d.Next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if s.to.reject != nil {
			if err := s.to.reject(e); err != nil {
				return Reject(e.Place, err)
			}
		}
		b, err := AppendProto(nil, e)
		if err != nil {
			return err
		}
		kept, err := ParseProto(b)
		if err != nil {
			return err
		}
		events = append(events, kept)
		d.Credit(e.Size())
	}

	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	if _, twice := s.to.next.chunks[c.Number]; twice || s.to.cursor.Epoch != s.o.Epoch {
		return errors.New("the chunk is there, or another epoch writes")
	}
	s.to.next.chunks[c.Number] = events
	return nil
}

func (s *testSink) Swap(_ context.Context, _ Chunk, end Event) (Cursor, error) {
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	if err := s.failing("swap"); err != nil {
		return Cursor{}, err
	}
	s.to.events = nil
	for _, n := range slices.Sorted(maps.Keys(s.to.next.chunks)) {
		s.to.events = append(s.to.events, s.to.next.chunks[n]...)
	}
	s.to.events = append(s.to.events, end)
	s.to.generation, s.to.next = s.to.next.id, nil
	s.to.cursor = s.o.Cursor(end)
	return s.to.cursor, s.failing("swapped")
}

// state folds what a place holds into the state that its readers see.
func (p *place) state() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	state := make(map[string]string)
	for _, e := range p.events {
		switch b := e.Body.(type) {
		case *Key:
			state[string(b.Key)] += string(b.Value)
		case *Change:
			if state[string(b.Key)] = string(b.Value); b.Delete {
				delete(state, string(b.Key))
			}
		}
	}
	return state
}

// bootRig is a rig with snapshots, whose blocks write keys.
func bootRig(t *testing.T) (*rig, *copies, map[string]string) {
	r := newRig(t)
	c := &copies{r: r}
	r.opts = func(o *Options) { o.Snapshots, o.ChunkBytes = c, 500 }
	r.start()
	return r, c, make(map[string]string)
}

func (r *rig) blockOf(state map[string]string, keys ...string) {
	r.block(keys...)
	for _, k := range keys {
		state[k] = fmt.Sprint("v", r.height)
	}
}

// verified requires that a sink agrees with the log.
func (r *rig) verified(name string) Report {
	r.t.Helper()
	report, err := r.streams.Verify(r.t.Context(), name, Position{}, Position{Height: math.MaxUint64})
	require.NoError(r.t, err)
	require.Empty(r.t, report.Findings)
	require.Positive(r.t, report.Units)
	return report
}

// Items 23 and 46, R40: a sink that begins with a snapshot, and whose bootstrap fails or whose
// engine stops at every step of it, ends equal to one that was streamed from block 1, and no chunk
// is written twice.
func TestABootstrapEndsEqualToAStreamFromBlockOne(t *testing.T) {
	for _, step := range []string{"bootstrap", "chunk", "swap", "swapped"} {
		for _, how := range []string{"fail", "kill"} {
			t.Run(step+" "+how, func(t *testing.T) {
				r, c, state := bootRig(t)
				r.define("all", "")
				r.define("out", "bootstrap = \"initial\"\n")
				for n := range 6 {
					r.blockOf(state, fmt.Sprint("a", n%4), fmt.Sprint("b", n), "c")
				}
				c.take(state)
				r.blockOf(state, "c", "d")

				times := 4
				if step == "swapped" {
					times = 1 // after it there is nothing left to do
				}
				failed := make(chan struct{}, times)
				r.sinks["out"].fail = failing(step, times, failed)
				r.up()
				for range times {
					select {
					case <-failed:
					case <-time.After(20 * time.Second):
						t.Fatal("the step was not taken again")
					}
					if how == "kill" {
						r.down()
						r.up()
					}
				}
				r.reaches("out")
				r.reaches("all")

				require.Equal(t, state, r.sinks["out"].state())
				require.Equal(t, r.sinks["all"].state(), r.sinks["out"].state())
				require.Equal(t, KindGap, r.sinks["out"].events[0].Body.Kind())
				require.Nil(t, mustSlot(t, r, "out").snapshot().Bootstrap)
				require.Equal(t, uint64(2), r.verified("out").Units)
				r.verified("all")
			})
		}
	}
}

// failing returns a function that fails a step on every other call, so many times, and says so.
func failing(step string, times int, failed chan<- struct{}) func(op string) error {
	var mu sync.Mutex
	calls := 0
	return func(op string) error {
		mu.Lock()
		defer mu.Unlock()
		if op != step || times == 0 {
			return nil
		}
		if calls++; step == "chunk" && calls%2 == 0 {
			return nil
		}
		times--
		failed <- struct{}{}
		return Fail(Unreachable, errors.New("planted"))
	}
}

func mustSlot(t *testing.T, r *rig, name string) *slot {
	sl, err := r.streams.slot(name)
	require.NoError(t, err)
	return sl
}

// R40: rebuild replaces what the sink has; what the sink had before is not needed. A slot that is
// lost is bootstrapped if its definition says so.
func TestALostSinkIsRebuilt(t *testing.T) {
	r, c, state := bootRig(t)
	r.define("asked", "")
	r.define("itself", "bootstrap = \"when_lost\"\n")
	r.blockOf(state, "a")
	r.up()
	r.reaches("asked")
	r.reaches("itself")
	require.NoError(t, r.streams.Lose("asked", "a gate"))
	r.becomes("asked", LostLog)
	r.blockOf(state, "a", "b")
	c.take(state)
	r.blockOf(state, "e")

	require.NoError(t, r.streams.Rebuild(t.Context(), "asked", "test"))
	r.reaches("asked")
	require.Equal(t, state, r.sinks["asked"].state())
	require.Equal(t, uint64(1), r.sinks["itself"].events[0].Body.(*Started).InitialHeight)

	require.NoError(t, r.streams.Lose("itself", "a gate"))
	r.blockOf(state, "f")
	r.reaches("itself")
	r.becomes("itself", Live)
	require.Equal(t, state, r.sinks["itself"].state())
	require.Equal(t, KindGap, r.sinks["itself"].events[0].Body.Kind())
	r.reaches("asked")
	require.Equal(t, state, r.sinks["asked"].state())
	r.verified("asked")
	r.verified("itself")
}

// R40: bootstrap names a height, and only an empty sink begins there. While it is under way the
// snapshot is held, and so is the log after it.
func TestABootstrapFromAHeightHoldsItsSnapshot(t *testing.T) {
	r, c, state := bootRig(t)
	for n := range 3 {
		r.blockOf(state, fmt.Sprint("a", n))
		c.take(state)
	}
	r.define("out", "bootstrap = \"2\"\n")
	r.define("none", "bootstrap = \"77\"\n")
	fail := true
	r.sinks["out"].fail = func(op string) error {
		if op == "swap" && fail {
			return Fail(Misconfigured, errors.New("planted"))
		}
		return nil
	}
	r.up()
	r.becomes("out", Failed)
	require.Contains(t, r.becomes("none", Failed).Last.Text, "height 77")
	id := fmt.Sprint(c.at[1].Index)
	require.True(t, r.streams.HoldsSnapshot(id))
	require.False(t, r.streams.HoldsSnapshot(fmt.Sprint(c.at[0].Index)))
	floors := make(map[string]uint64)
	for _, f := range r.log.Stat().Retainers {
		floors[f.Name] = cmp.Or(floors[f.Name], f.Floor)
	}
	require.LessOrEqual(t, floors["stream out"], c.at[1].Index+1)

	r.sinks["out"].mu.Lock()
	fail = false
	r.sinks["out"].mu.Unlock()
	require.NoError(t, r.streams.Retry("out", "test"))
	r.reaches("out")
	require.Equal(t, state, r.sinks["out"].state())
	require.Equal(t, uint64(2), r.sinks["out"].events[0].Height)
	require.False(t, r.streams.HoldsSnapshot(id))
}

// A bootstrap applies filter, codecs, parts and on_reject as the log's delivery does.
func TestABootstrapFollowsTheDefinition(t *testing.T) {
	r, c, state := bootRig(t)
	r.blockOf(state, "other")
	state["account/a"], state["account/bad"], state["account/big"] = "1", "x", strings.Repeat("9", 2500)
	state["other"] = "2"
	c.take(state)
	r.define("out", "bootstrap = \"initial\"\non_reject = \"park\"\ncodecs = { \"account/\" = \"decimal\" }\n"+
		"filter = [\"kind=change,key=account/\"]\n")
	r.up()
	require.Equal(t, 1, r.becomes("out", Degraded).Parked)

	out := r.sinks["out"]
	delete(state, "other")
	delete(state, "account/bad")
	require.Equal(t, state, out.state())
	text := strings.Join(out.text(), "\n")
	require.Contains(t, text, `"kind":"rejected","was":"state","key":"account/bad"`)
	require.Equal(t, 3, strings.Count(text, `"parts":3`), "a value comes in parts of the sink's limit")
	require.True(t, slices.ContainsFunc(out.events, func(e Event) bool {
		k, ok := e.Body.(*Key)
		return ok && bytes.Equal(k.Decoded, []byte("1"))
	}))
}

// A definition that wants what its kind or the program cannot do is refused.
func TestABootstrapThatIsNotPossibleIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"bootstrap = \"sometimes\"\n": `is "sometimes"`,
		"bootstrap = \"0\"\n":         `is "0"`,
		"bootstrap = \"when_lost\"\n": "has no snapshots",
		"on_gap = \"bootstrap\"\n":    "on_gap is not possible",
	} {
		r := newRig(t)
		r.define("out", text)
		_, err := New(r.options())
		require.ErrorIs(t, err, ErrDefinition)
		require.ErrorContains(t, err, want)
	}
}

// A rewind to common keeps the blocks before the first one that does not agree with the log.
func TestARewindToCommonFindsTheLastBlockThatAgrees(t *testing.T) {
	for name, plant := range map[string]func(*place){
		"changed": func(p *place) { p.at(3).Body.(*Change).Value = []byte("other") },
		"lost":    func(p *place) { p.without(func(h uint64) bool { return h == 3 }) },
		"short":   func(p *place) { p.without(func(h uint64) bool { return h > 2 }) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.start()
			r.define("out", "")
			r.up()
			for range 5 {
				r.block("a")
			}
			r.reaches("out")
			require.NoError(t, r.streams.Pause("out", "test"))
			_, err := r.streams.RewindCommon(t.Context(), "none", "test")
			require.ErrorIs(t, err, ErrNoSlot)
			r.becomes("out", Paused)
			plant(r.sinks["out"])

			at, err := r.streams.RewindCommon(t.Context(), "out", "test")
			require.NoError(t, err)
			require.Equal(t, Position{Height: 2}, at)
			require.NoError(t, r.streams.Resume("out", false, "test"))
			r.reaches("out")
			require.EqualValues(t, 6, r.verified("out").Units)
		})
	}
}

// at returns the change of a height.
func (p *place) at(height uint64) Event {
	for _, e := range p.events {
		if _, ok := e.Body.(*Change); ok && e.Height == height {
			return e
		}
	}
	return Event{}
}

// without removes the events of some heights.
func (p *place) without(is func(height uint64) bool) {
	p.events = slices.DeleteFunc(p.events, func(e Event) bool { return is(e.Height) })
}
