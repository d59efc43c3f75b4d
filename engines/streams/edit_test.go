package streams

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func definition(more string) []byte { return []byte("kind = \"test\"\n" + more) }

// clean checks what a slot's sink holds against the log.
func (r *rig) clean(name string) Report {
	r.t.Helper()
	report, err := r.streams.Verify(r.t.Context(), name, Position{}, Position{Period: math.MaxUint64})
	require.NoError(r.t, err)
	require.Empty(r.t, report.Findings)
	return report
}

// Item 38, R26: a changed definition is refused; from here, the slot goes on under it, and an event
// marks the place, also over restarts and rewinds.
func TestASlotGoesOnUnderAnotherDefinition(t *testing.T) {
	r := newRig(t)
	r.start()
	r.define("out", "")
	r.up()
	r.block("a")
	r.block("b")
	r.reaches("out")

	next := definition("filter = [\"kind=change,key=n\"]\n")
	_, err := r.streams.Edit(t.Context(), "out", next, EditOptions{By: "me"})
	require.ErrorIs(t, err, ErrState)
	_, err = r.streams.Edit(t.Context(), "out", next, EditOptions{FromHere: true, By: "me"})
	require.ErrorContains(t, err, "pause it first")
	_, err = r.streams.Edit(t.Context(), "out", definition("keep_bytes = 1000000\n"), EditOptions{By: "me"})
	require.NoError(t, err, "it changes nothing of what the sink holds")

	require.NoError(t, r.streams.Pause("out", "me"))
	_, err = r.streams.Edit(t.Context(), "out", next, EditOptions{DryRun: true, FromHere: true, By: "me"})
	require.NoError(t, err)
	text, err := r.streams.Export("out")
	require.NoError(t, err)
	require.NotContains(t, string(text), "filter", "a dry run")
	_, err = r.streams.Edit(t.Context(), "out", next, EditOptions{FromHere: true, By: "me"})
	require.NoError(t, err)
	text, err = r.streams.Export("out")
	require.NoError(t, err)
	require.Equal(t, next, text)

	require.NoError(t, r.streams.Resume("out", false, "me"))
	r.block("x") // the filter leaves nothing of it
	r.block("n1", "y")
	r.block("n2")
	r.reaches("out")
	require.Equal(t, []string{"1:a", "2:b", "4:n1", "5:n2"}, r.sinks["out"].keys())
	marks := func() (at []uint64) {
		for _, e := range r.sinks["out"].events {
			if m, ok := e.Body.(*Redefined); ok {
				require.NotEqual(t, m.From, m.To)
				at = append(at, e.Height)
			}
		}
		return at
	}
	require.Equal(t, []uint64{4}, marks())
	require.EqualValues(t, 2, r.clean("out").Units, "what is before the change is not compared")

	st, err := r.streams.Status("out", Head{}, r.log.Stat())
	require.NoError(t, err)
	require.Contains(t, st.History[len(st.History)-2].What, "edit, from here")
	require.Equal(t, "me", st.History[len(st.History)-2].By)
	require.Contains(t, st.History[len(st.History)-2].From, "at height 2")

	require.NoError(t, r.streams.Pause("out", "me"))
	require.NoError(t, r.streams.Rewind(t.Context(), "out", Position{Height: 2}, "me"))
	require.Empty(t, marks())
	r.down()
	r.up()
	require.NoError(t, r.streams.Resume("out", false, "me"))
	r.reaches("out")
	require.Equal(t, []uint64{4}, marks())
	r.clean("out")
	r.block("n3")
	r.reaches("out")
	require.Equal(t, []uint64{4}, marks())
	r.clean("out")
}

// A crash after the unit with the mark reached the sink, before the slot's file knew of it, doubles
// no mark.
func TestACrashDoublesNoMark(t *testing.T) {
	r := began(t, "")
	require.NoError(t, r.streams.Pause("out", "me"))
	_, err := r.streams.Edit(t.Context(), "out", definition("bodies = true\n"), EditOptions{FromHere: true, By: "me"})
	require.NoError(t, err)
	path := slotPath(r.options().Data, "out")
	require.NoError(t, r.streams.Resume("out", false, "me"))
	r.block("b")
	r.reaches("out")
	r.down()

	f, err := readSlot(r.options().Data, "out")
	require.NoError(t, err)
	require.NotNil(t, f.Redefined.In)
	f.Redefined.In = nil
	require.NoError(t, os.Remove(path))
	require.NoError(t, f.write(r.options().Data))
	r.up()
	r.block("c")
	r.reaches("out")
	require.Equal(t, 1, strings.Count(strings.Join(r.sinks["out"].text(), "\n"), `"kind":"redefined"`))
	r.clean("out")
}

// SIGHUP: definitions are read again, and bad ones change nothing.
func TestDefinitionsAreReadAgain(t *testing.T) {
	r := began(t, "")

	r.define("late", "")
	r.define("bad", "colour = [\n")
	require.ErrorIs(t, r.streams.Reload(), ErrDefinition)
	require.Equal(t, []string{"out"}, r.streams.Names())

	dir := filepath.Join(r.dir, "streams")
	require.NoError(t, os.Remove(filepath.Join(dir, "bad.toml")))
	require.NoError(t, r.streams.Reload())
	r.reaches("late")
	require.Equal(t, []string{"1:a"}, r.sinks["late"].keys())

	before, err := r.streams.Status("out", Head{}, r.log.Stat())
	require.NoError(t, err)
	require.NoError(t, r.streams.Reload())
	after, err := r.streams.Status("out", Head{}, r.log.Stat())
	require.NoError(t, err)
	require.Equal(t, len(before.History), len(after.History), "nothing has changed")

	require.NoError(t, os.Remove(filepath.Join(dir, "late.toml")))
	require.NoError(t, r.streams.Reload())
	require.Contains(t, r.becomes("late", Failed).Last.Text, "no definition")
	r.define("late", "")
	require.NoError(t, r.streams.Reload())
	r.block("b")
	r.reaches("late")
	require.Equal(t, []string{"1:a", "2:b"}, r.sinks["late"].keys())
}

// A range of blocks is written into a second target, which begins with the range.
func TestARangeIsReplayedIntoAnotherSink(t *testing.T) {
	r := newRig(t)
	r.start()
	r.define("out", "")
	r.sinks["copy"] = &place{}
	r.up()
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		r.block(key)
	}
	r.reaches("out")

	at, events, err := r.streams.Replay(t.Context(), "out", Position{Height: 2}, Position{Height: 3}, "copy",
		definition("filter = [\"kind=change\"]\n"))
	require.NoError(t, err)
	require.Equal(t, Position{Height: 3}, at.Position)
	require.EqualValues(t, 6, events)
	require.Equal(t, []string{"2:b", "3:c"}, r.sinks["copy"].keys())

	_, _, err = r.streams.Replay(t.Context(), "out", Position{Height: 2}, Position{Height: 4}, "copy",
		definition("filter = [\"kind=change\"]\n"))
	require.NoError(t, err, "it goes on after what is there")
	require.Equal(t, []string{"2:b", "3:c", "4:d"}, r.sinks["copy"].keys())
	require.Equal(t, []string{"out"}, r.streams.Names())
	_, _, err = r.streams.Replay(t.Context(), "out", Position{}, Position{Height: 4}, "out", definition(""))
	require.ErrorIs(t, err, ErrState)
}

// Item 39: parked events are listed, given up, or tried again; a retry leaves no marker behind, and
// the cursor never moves without the data.
func TestParkedEventsAreDroppedOrTriedAgain(t *testing.T) {
	r := newRig(t)
	r.start()
	r.define("out", "on_reject = \"park\"\n")
	bad := map[string]bool{"bad1": true, "bad2": true}
	r.sinks["out"].reject = func(e Event) error {
		if c, ok := e.Body.(*Change); ok && bad[string(c.Key)] {
			return errors.New("constraint")
		}
		return nil
	}
	r.up()
	r.block("a")
	r.block("bad1", "b")
	r.block("bad2")
	r.block("c")
	r.reaches("out")
	require.Equal(t, 2, r.becomes("out", Degraded).Parked)

	list, err := r.streams.Parked("out")
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Contains(t, string(list[0].Event), `"key":"bad1"`)
	require.ErrorIs(t, r.streams.DropParked("out", []int{3}, "me"), ErrState)
	require.NoError(t, r.streams.DropParked("out", []int{2}, "me"))
	require.Equal(t, 1, r.becomes("out", Degraded).Parked)
	require.ErrorContains(t, r.streams.RetryParked(t.Context(), "out", "me"), "pause it first")

	delete(bad, "bad1")
	require.NoError(t, r.streams.Pause("out", "me"))
	require.NoError(t, r.streams.RetryParked(t.Context(), "out", "me"))
	require.Equal(t, []string{"1:a"}, r.sinks["out"].keys())
	require.NoError(t, r.streams.Resume("out", false, "me"))
	r.reaches("out")
	require.Equal(t, []string{"1:a", "2:bad1", "2:b", "4:c"}, r.sinks["out"].keys())
	require.Equal(t, 1, r.becomes("out", Degraded).Parked, "bad2 is refused again")
	r.clean("out")

	require.NoError(t, r.streams.DropParked("out", nil, "me"))
	require.Zero(t, r.becomes("out", Live).Parked)
	r.down()
	r.up()
	r.block("d")
	r.reaches("out")
	require.Zero(t, r.becomes("out", Live).Parked)
	r.clean("out")
	require.ErrorIs(t, r.streams.RetryParked(t.Context(), "out", "me"), ErrState)
}

// Item 38, R26: with the second flag the sink is rebuilt as a new generation under the changed
// definition, while its readers see the old data until the swap.
func TestASinkIsRebuiltUnderAnotherDefinition(t *testing.T) {
	r, c, state := bootRig(t)
	r.define("out", "")
	r.up()
	r.blockOf(state, "n1", "other")
	c.take(state)
	r.reaches("out")
	next := definition("filter = [\"key=n\"]\n")
	both := EditOptions{FromHere: true, Rebuild: true, By: "me"}
	_, err := r.streams.Edit(t.Context(), "out", next, both)
	require.ErrorContains(t, err, "not both")
	_, err = r.streams.Edit(t.Context(), "out", next, EditOptions{Rebuild: true, DryRun: true, By: "me"})
	require.NoError(t, err)
	require.NotEmpty(t, r.sinks["out"].keys(), "a dry run")

	_, err = r.streams.Edit(t.Context(), "out", next, EditOptions{Rebuild: true, By: "me"})
	require.NoError(t, err)
	r.blockOf(state, "n2", "x")
	r.reaches("out")
	require.Equal(t, []string{fmt.Sprintf("%d:n2", r.height)}, r.sinks["out"].keys(), "the rest is state")
	require.Equal(t, []string{"n1", "n2"}, slices.Sorted(maps.Keys(r.sinks["out"].state())))
	r.clean("out")

	st, err := r.streams.Status("out", Head{}, r.log.Stat())
	require.NoError(t, err)
	require.Contains(t, st.History[len(st.History)-1].What, "edit, rebuilt under definition "+st.Definition)

	r.opts = nil
	plain := newRig(t)
	plain.start()
	plain.define("out", "")
	plain.up()
	_, err = plain.streams.Edit(t.Context(), "out", next, EditOptions{Rebuild: true, By: "me"})
	require.ErrorContains(t, err, "cannot be rebuilt")
}

// A slot that is far behind says so until it has what the log had, and so does one whose sink went
// back (R12).
func TestASlotThatIsFarBehindSaysSo(t *testing.T) {
	r := began(t, "")
	out := r.sinks["out"]
	require.NoError(t, r.streams.Pause("out", "me"))
	r.becomes("out", Paused)
	for range farBehind/3 + 1 {
		r.block("a")
	}
	stall := make(chan struct{})
	out.stall = stall
	require.NoError(t, r.streams.Resume("out", false, "me"))
	r.becomes("out", CatchingUp)
	close(stall)
	r.reaches("out")
	r.becomes("out", Live)

	r.down()
	sink := &testSink{to: out, o: Opening{Definition: out.cursor.Definition}}
	_, err := sink.Rewind(t.Context(), &Position{Height: 2})
	require.NoError(t, err)
	out.stall = make(chan struct{})
	r.up()
	require.EqualValues(t, 1, r.becomes("out", CatchingUp).Counts.Rewinds)
	close(out.stall)
	r.reaches("out")
	r.becomes("out", Live)
	r.clean("out")
}
