package streams

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// R2, R3: what a chain and a block deliver, and in which order.
func TestABlockIsDeliveredWhole(t *testing.T) {
	r := newRig(t)
	r.start()
	r.define("out", "")
	r.up()
	r.block("a", "b")
	r.block()
	r.reaches("out")

	var kinds []string
	for _, e := range r.sinks["out"].events {
		kinds = append(kinds, string(e.Body.Kind()))
	}
	require.Equal(t, "started validator end "+
		"block tx change change event outcome end "+
		"block end", strings.Join(kinds, " "))
	for i, e := range r.sinks["out"].events[3:10] {
		require.Equal(t, Place{ChainID: "c", Position: Position{Height: 1}, Index: uint64(i)}, e.Place)
	}
	require.Equal(t, "kv", r.sinks["out"].events[4].Body.(*Tx).Backend)
	require.Equal(t, uint64(7), r.sinks["out"].events[9].Body.(*End).Events)
	require.Equal(t, uint64(2), r.sinks["out"].cursor.Events)
}

// Items 5, 7 and 17: a stopped engine goes on at the next block, and what came meanwhile comes
// first.
func TestARestartGoesOnAtTheNextBlock(t *testing.T) {
	r := newRig(t)
	r.start()
	r.define("out", "")
	var want []string
	for n := range 5 {
		r.block("a", "b")
		r.up()
		r.block("c")
		r.reaches("out")
		r.down()
		if n%2 == 0 { // a crash: the slot file is older than the sink
			require.NoError(t, os.Remove(slotPath(r.options().Data, "out")))
			r.sinks["out"].cursor.Epoch = 0 // or the sink would be another node's
		}
		want = append(want, "x")
	}
	require.Len(t, r.sinks["out"].keys(), 3*len(want))
	require.Equal(t, "1:a 1:b 2:c 3:a 3:b", strings.Join(r.sinks["out"].keys()[:5], " "))
}

// Item 8: a failure at any event resumes without a gap.
func TestAFailureDuringCatchUpLeavesNoGap(t *testing.T) {
	r := newRig(t)
	r.start()
	for range 30 {
		r.block("a", "b")
	}
	r.define("out", "")
	n := 0
	r.sinks["out"].fail = func(op string) error {
		if n++; n%3 == 1 && n < 12 {
			return Fail(Unreachable, errors.New("refused"))
		}
		return nil
	}
	r.up()
	r.reaches("out")
	require.Len(t, r.sinks["out"].keys(), 60)
}

// Item 12, R27: a filter leaves out events; what it leaves out still advances the slot.
func TestAFilterAdvancesOverWhatItLeavesOut(t *testing.T) {
	r := newRig(t)
	r.start()
	r.define("out", `filter = ["kind=change,key=account/"]`+"\nkeep_behind = \"0s\"\n")
	r.up()
	r.block("account/a", "b")
	for range 20 {
		r.block("b")
	}
	last := r.block()
	r.reaches("out")

	require.Equal(t, []string{"1:account/a"}, r.sinks["out"].keys())
	require.Equal(t, uint64(1), r.sinks["out"].cursor.Height)
	require.Eventually(t, func() bool {
		st, _ := r.streams.Status("out", Head{}, r.log.Stat())
		return st.Floor == last+1
	}, 10*time.Second, 10*time.Millisecond)

	r.down()
	r.up() // the log need not have what was left out
	r.block("account/z")
	r.reaches("out")
	require.Equal(t, []string{"1:account/a", "23:account/z"}, r.sinks["out"].keys())
}

// Item 20, R10: the log is not truncated past a slot, also not before the engine runs.
func TestTheLogIsKeptForASlot(t *testing.T) {
	r := began(t, "keep_behind = \"0s\"\n")
	require.NoError(t, r.streams.Pause("out", "test"))
	r.becomes("out", Paused)
	r.down()

	for range 50 {
		r.block(strings.Repeat("k", 4000))
	}
	require.NoError(t, r.log.Close())
	r.openLog()
	s, err := New(r.options())
	require.NoError(t, err)
	s.Hold(r.log)
	_, err = r.log.Truncate(r.log.Durable())
	require.NoError(t, err)

	r.up()
	require.NoError(t, r.streams.Resume("out", false, "test"))
	r.reaches("out")
	require.Len(t, r.sinks["out"].keys(), 51)
}

// Item 49, R10: a slot file that cannot be read holds the whole log.
func TestADamagedSlotFileHoldsTheLog(t *testing.T) {
	r := began(t, "")
	r.down()
	for range 50 {
		r.block(strings.Repeat("k", 4000))
	}

	path := slotPath(r.options().Data, "out")
	for _, text := range []string{"", "{", `{"version":9,"name":"out"}`, `{"version":1,"name":"other"}`} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		s, err := New(r.options())
		require.NoError(t, err)
		s.Hold(r.log)
		first := r.log.First()
		_, err = r.log.Truncate(r.log.Durable())
		require.NoError(t, err)
		require.Equal(t, first, r.log.First())
		require.Contains(t, r.log.Stat().Retainers[0].Name, "stream")
	}
}

// Items 19 and 64, R4, R5: a sink of another chain or with other hashes is refused by name, and a
// sink above the log is not written.
func TestAForeignSinkIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Cursor)
		state  State
		class  Class
		text   string
	}{
		"chain":      {func(c *Cursor) { c.ChainID = "d" }, Failed, Foreign, `"d"`},
		"app hash":   {func(c *Cursor) { c.AppHash = []byte("other") }, Failed, Foreign, "app hash"},
		"block hash": {func(c *Cursor) { c.BlockHash = []byte("other") }, Failed, Foreign, "block"},
		"ahead":      {func(c *Cursor) { c.Height = 9 }, AheadOf, Ahead, "height 9"},
	} {
		t.Run(name, func(t *testing.T) {
			r := began(t, "")
			r.down()

			tc.change(&r.sinks["out"].cursor)
			opens := r.sinks["out"].opens
			r.block("b")
			r.up()
			st := r.becomes("out", tc.state)
			require.Equal(t, tc.class, st.Last.Class)
			require.Contains(t, st.Last.Text, tc.text)
			require.Equal(t, opens, r.sinks["out"].opens, "it was claimed")
			require.Equal(t, []string{"1:a"}, r.sinks["out"].keys())
		})
	}
}

// Item 38, R26: a changed definition is refused.
func TestAChangedDefinitionIsRefused(t *testing.T) {
	r := began(t, "")
	r.down()

	r.define("out", `codecs = { "a" = "utf8" }`)
	r.up()
	st := r.becomes("out", Failed)
	require.Equal(t, Misconfigured, st.Last.Class)
	require.Contains(t, st.Last.Text, "definition")
}

// Items 39 and 70, R20: a refused event stops the slot, or is parked with a marker in its place. A
// retry never moves the cursor.
func TestARejectedEventStopsOrIsParked(t *testing.T) {
	bad := func(e Event) error {
		if c, ok := e.Body.(*Change); ok && string(c.Key) == "bad" {
			return errors.New("constraint")
		}
		return nil
	}

	r := newRig(t)
	r.start()
	r.define("out", "")
	r.sinks["out"].reject = bad
	r.up()
	r.block("a")
	r.reaches("out")
	r.block("bad", "b")
	st := r.becomes("out", Failed)
	require.Equal(t, RejectedEvent, st.Last.Class)
	require.Equal(t, uint64(1), st.Cursor.Height)
	require.NoError(t, r.streams.Retry("out", "test"))
	require.Equal(t, uint64(1), r.becomes("out", Failed).Cursor.Height)
	r.down()

	r.define("out", "on_reject = \"park\"\n")
	r.up()
	r.block("c")
	r.reaches("out")
	require.Equal(t, []string{"1:a", "2:b", "3:c"}, r.sinks["out"].keys())
	st = r.becomes("out", Degraded)
	require.Equal(t, 1, st.Parked)
	require.Contains(t, strings.Join(r.sinks["out"].text(), "\n"), `"kind":"rejected","was":"change","key":"bad"`)
	r.down()

	r.up() // the marker stands again after a restart
	r.block("d")
	r.reaches("out")
	require.Equal(t, 1, r.becomes("out", Degraded).Parked)
}

// Item 39: too many parked events in a window stop the slot.
func TestTooManyParkedEventsStopTheSlot(t *testing.T) {
	r := newRig(t)
	r.start()
	r.define("out", "on_reject = \"park\"\npark_limit = 2\ncodecs = { \"n\" = \"u64be\" }\n")
	r.up()
	r.block("n1")
	r.block("n2")
	r.block("n3")
	st := r.becomes("out", Failed)
	require.Contains(t, st.Last.Text, "2 events were parked")
	require.Equal(t, 2, st.Parked)
}

// Item 67: each class leads to its state.
func TestEachClassHasItsState(t *testing.T) {
	for class, want := range map[Class]State{
		Unreachable: Retrying, Full: Retrying, Unauthorised: Retrying, Misconfigured: Failed, Fenced: FencedOff,
		Foreign: Failed, GapInLog: InGap, Bug: Failed, Lost: LostLog,
	} {
		t.Run(string(class), func(t *testing.T) {
			r := newRig(t)
			r.start()
			r.define("out", "")
			r.sinks["out"].fail = func(op string) error {
				if op == "open" {
					return Fail(class, errors.New("planted"))
				}
				return nil
			}
			r.up()
			st := r.becomes("out", want)
			require.Equal(t, class, st.First.Class)
			require.Contains(t, st.First.Text, "planted")
		})
	}
}

// Item 16: a stalled sink delays no other.
func TestAStalledSinkDelaysNoOther(t *testing.T) {
	r := newRig(t)
	r.start()
	r.define("slow", "")
	r.define("fast", "")
	r.sinks["slow"].stall = make(chan struct{})
	r.up()
	for range 20 {
		r.block("a")
	}
	r.reaches("fast")
	require.Empty(t, r.sinks["slow"].keys())
	close(r.sinks["slow"].stall)
	r.reaches("slow")
}

// Items 27 and 36, R23, R24: two nodes, one sink: one writes, the other takes over after the lease
// at the exact next block, and the old writer is fenced.
func TestAStandbyTakesOver(t *testing.T) {
	a, b := newRig(t), newRig(t)
	b.sinks["out"] = &place{}
	a.sinks["out"] = b.sinks["out"]
	for _, r := range []*rig{a, b} {
		r.start()
		r.define("out", "standby = true\n")
	}
	a.up()
	a.block("a")
	b.block("a")
	a.reaches("out")
	b.up()
	b.becomes("out", Standby)
	a.block("b")
	b.block("b")
	a.reaches("out")
	a.down()

	a.block("c")
	b.block("c")
	b.reaches("out")
	b.becomes("out", Live)
	require.Equal(t, []string{"1:a", "2:b", "3:c"}, b.sinks["out"].keys())

	a.up() // the old writer comes back
	a.becomes("out", Standby)
	a.block("d")
	b.block("d")
	b.reaches("out")
	require.Equal(t, []string{"1:a", "2:b", "3:c", "4:d"}, b.sinks["out"].keys())
}

// R23, R24: a standby that lost the race for a lapsed writer's place watches the winner for the
// whole lease. It does not take the sink from it at once.
func TestAStandbyThatLosesTheRaceWatchesTheWinner(t *testing.T) {
	r := newRig(t)
	r.start()
	r.define("out", "standby = true\n")
	r.block("a")
	p := r.sinks["out"]
	p.cursor = Cursor{Epoch: 7, Beat: 1} // a node that is gone

	lost, looks := false, 0
	watched := make(chan struct{})
	p.fail = func(op string) error { // with p.mu held
		switch {
		case op == "open" && !lost:
			p.cursor.Epoch, lost = 8, true // another standby was faster
		case op == "observe" && lost:
			p.cursor.Beat++
			if looks++; looks == 10 {
				close(watched)
			}
		}
		return nil
	}
	r.up()

	select {
	case <-watched:
	case <-time.After(20 * time.Second):
		t.Fatal("the standby does not watch the winner")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Zero(t, p.opens, "the winner gives signs of life, and was fenced")
	require.EqualValues(t, 8, p.cursor.Epoch)
}

// Items 5 and 50: a claim whose answer is lost is this node's own: also if the next one fails
// before it reaches the sink, and if the lost one takes effect late and refuses the next.
func TestALostAnswerToAClaimIsThisNodesOwn(t *testing.T) {
	lost := Fail(Unreachable, errors.New("connection lost"))
	for name, open := range map[string]func(p *place, n int) error{
		"the next fails": func(p *place, n int) error {
			if n == 1 {
				p.cursor.Epoch++ // the sink has taken the claim
			}
			if n <= 3 {
				return lost
			}
			return nil
		},
		"it comes late": func(p *place, n int) error {
			switch n {
			case 1:
				return lost
			case 2:
				p.cursor.Epoch++ // now the sink has taken the first claim
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := began(t, "")
			r.down()

			p, opens := r.sinks["out"], 0
			p.fail = func(op string) error { // with p.mu held
				if op != "open" {
					return nil
				}
				opens++
				return open(p, opens)
			}
			r.up()
			r.block("b")
			r.reaches("out")
			require.Equal(t, []string{"1:a", "2:b"}, p.keys())
		})
	}
}

// Items 18 and 45, R12: a sink that went back, also behind the claims of this node, is filled again
// and counted: while the writer has it open, and over a restart.
func TestASinkThatWentBackIsFilledAgain(t *testing.T) {
	for _, standby := range []bool{false, true} {
		for _, running := range []bool{false, true} {
			t.Run(fmt.Sprintf("standby %v, running %v", standby, running), func(t *testing.T) {
				r := newRig(t)
				r.start()
				r.define("out", fmt.Sprintf("standby = %v\n", standby))
				r.up()
				r.block("a")
				r.reaches("out")
				p := r.sinks["out"]
				p.mu.Lock()
				saved, n := p.cursor, len(p.events)
				p.mu.Unlock()
				r.down()
				r.up()
				r.block("b")
				r.reaches("out")

				if !running {
					r.down()
				}
				p.mu.Lock()
				require.Greater(t, p.cursor.Epoch, saved.Epoch)
				p.cursor, p.events = saved, p.events[:n:n]
				p.mu.Unlock()
				if !running {
					r.up()
				}
				require.Eventually(t, func() bool {
					st, err := r.streams.Status("out", Head{}, r.log.Stat())
					require.NoError(t, err)
					return st.Counts.Rewinds == 1
				}, 20*time.Second, 5*time.Millisecond, "also if no block comes")
				r.block("c")
				r.reaches("out")
				require.Equal(t, []string{"1:a", "2:b", "3:c"}, p.keys())
			})
		}
	}
}

// R28: a panic of a sink's constructor, or the end of its goroutine, is a fault of the stream and
// not the end of the process.
func TestASinkThatCannotBeMadeEndsNothing(t *testing.T) {
	for name, fault := range map[string]func(){"panic": func() { panic("a fault of New") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			var faults atomic.Int32
			r.opts = func(o *Options) {
				make := o.Factories[0].New
				o.Factories[0].New = func(d Definition, s Secrets) (Sink, error) {
					if faults.Add(-1) >= 0 {
						fault()
					}
					return make(d, s)
				}
			}
			r.start()
			r.define("out", "")
			s, err := New(r.options())
			require.NoError(t, err)
			faults.Store(2)
			s.Hold(r.log)
			r.streams, r.stop = s, serve(t, s)
			r.block("a")
			r.reaches("out")
			require.Equal(t, []string{"1:a"}, r.sinks["out"].keys())
		})
	}
}

// R25: a sink that has a cursor and no slot file waits for an operator.
func TestADetachedSinkWaitsForAnOperator(t *testing.T) {
	r := began(t, "")
	r.down()
	require.NoError(t, os.Remove(slotPath(r.options().Data, "out")))

	r.up()
	r.becomes("out", Detached)
	r.block("b")
	require.NoError(t, r.streams.Resume("out", true, "test"))
	r.reaches("out")
	require.Equal(t, []string{"1:a", "2:b"}, r.sinks["out"].keys())
}
