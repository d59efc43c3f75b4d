package gate

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// gateOf returns a file with one gate.
func gateOf(sinks, n, more string) string {
	return "[[gate]]\nname = \"books\"\nsinks = [" + sinks + "]\nn = " + n + "\n" + more
}

// waits asserts that no block passes within a time, and that the last moment of it is reached.
func waits(t *testing.T, done chan error, d time.Duration) {
	t.Helper()
	<-time.After(d)
	synctest.Wait()
	require.Empty(t, done, "the block has not waited")
}

// passes asserts that a block passes at this moment.
func passes(t *testing.T, done chan error) {
	t.Helper()
	synctest.Wait()
	require.Len(t, done, 1, "the block waits")
	require.NoError(t, <-done)
}

// Item 1: a sink in no gate never delays a block, however dead it is.
func TestADeadSinkInNoGateDelaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, gateOf(`"a"`, "1", ""), "a", "dead")
		r.set("dead", func(s *Sink) { s.Known, s.State = false, "retrying" })
		for h := uint64(1); h <= 100; h++ {
			r.pass(t, h, h)
			r.has("a", h)
		}
	})
}

// Item 2: wait for n. With n-1 sinks alive no block passes, for an hour.
func TestWithOneLessThanNNoBlockPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, gateOf(`"a", "b", "c"`, "2", `on_exceed = "pause"`), "a", "b", "c")
		r.pass(t, 1, 1)
		r.has("a", 1)

		done, _ := r.order(t, 2)
		waits(t, done, time.Hour)
		require.Equal(t, []uint64{1}, r.core.heights())

		r.has("c", 1)
		passes(t, done)
	})
}

// Item 3: wait for all. One missing acknowledgment acts at the timeout, and not before.
// Item 4, 21: halt names gate, sink and height, and the block never passes.
func TestOneMissingOfAllHaltsAtTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, gateOf(`"a", "b"`, `"all"`, `on_exceed = "halt"`), "a", "b")
		r.pass(t, 1, 1)
		r.has("a", 1)

		done, stop := r.order(t, 2)
		waits(t, done, DefaultTimeout-time.Nanosecond)
		require.Empty(t, r.halts())

		waits(t, done, time.Nanosecond)
		require.Equal(t, []*HaltError{{Gate: "books", Sinks: []string{"b"}, Height: 2}}, r.halts())
		require.EqualError(t, r.halts()[0], "gate books halts the node before block 2, because of b: mend the sink, "+
			"or start once with --without-sink b")
		require.Equal(t, Halting, last(r.phases()).Phase)

		r.has("b", 1) // too late
		waits(t, done, time.Hour)
		require.Len(t, r.halts(), 1)
		stop()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

// R36: slow is not dead. A sink that makes progress is waited for as long as it does.
func TestASinkThatMakesProgressIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, gateOf(`"a"`, "1", `on_exceed = "halt"`), "a")
		r.pass(t, 1, 1)
		done, _ := r.order(t, 2)
		for range 100 {
			waits(t, done, DefaultTimeout-time.Nanosecond)
			r.set("a", func(s *Sink) { s.Progress = time.Now() }) // credit
		}
		require.Empty(t, r.halts())
		waits(t, done, DefaultTimeout)
		require.Len(t, r.halts(), 1)
	})
}

// R36: a timeout of 0 waits for ever.
func TestNoTimeoutWaitsForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, gateOf(`"a"`, "1", "on_exceed = \"halt\"\ntimeout = \"0s\""), "a")
		r.pass(t, 1, 1)
		done, _ := r.order(t, 2)
		waits(t, done, 5*time.Hour)
		require.Empty(t, r.halts())
		r.has("a", 1)
		passes(t, done)
	})
}

// Items 21 and 22: pause waits on after the timeout, and ends at the low-water mark.
func TestAPausedGateOpensAtItsLowWaterMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, gateOf(`"a"`, "1", "on_exceed = \"pause\"\nmax_lag = 10"), "a")
		r.pass(t, 1, 11) // the last one with a sink at 0: it lacks 10

		done, _ := r.order(t, 12)
		waits(t, done, time.Hour)
		for h := uint64(1); h < 6; h++ {
			r.has("a", h)
			waits(t, done, time.Second)
		}
		r.has("a", 6) // it lacks 5, half of max_lag
		passes(t, done)

		_, err := r.door.Commit(t.Context(), 12)
		require.NoError(t, err)
		r.pass(t, 13, 17) // open again up to max_lag
		done, _ = r.order(t, 18)
		waits(t, done, time.Second)
	})
}

// Item 21: drop gives up the sink at its bound, and `all` means the rest. With fewer than n left
// the gate pauses, and no slot is lost for it.
func TestDropGivesUpTheSinkUnlessTooFewAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, gateOf(`"a", "b"`, `"all"`, `on_exceed = "drop"`), "a", "b")
		r.pass(t, 1, 1)
		r.has("a", 1)
		done, _ := r.order(t, 2)
		waits(t, done, DefaultTimeout-time.Nanosecond)
		require.Empty(t, r.dropped())
		<-time.After(time.Nanosecond)
		passes(t, done)
		require.Equal(t, []string{"b"}, r.dropped())

		_, err := r.door.Commit(t.Context(), 2)
		require.NoError(t, err)
		r.has("a", 2)
		r.pass(t, 3, 3)
	})

	synctest.Test(t, func(t *testing.T) {
		r := open(t, gateOf(`"a", "b"`, "2", `on_exceed = "drop"`), "a", "b")
		r.pass(t, 1, 1)
		r.has("a", 1)
		done, _ := r.order(t, 2)
		waits(t, done, time.Hour)
		require.Empty(t, r.dropped())
		r.has("b", 1)
		passes(t, done)
	})
}

// Item 21: spill lets blocks pass from the timeout on, up to its bytes and its time, and then acts.
func TestSpillLetsBlocksPassUpToItsBounds(t *testing.T) {
	spill := "spill_bytes = 1000\nspill_time = \"10m\"\nthen = \"halt\""
	begin := func(t *testing.T) *rig {
		r := open(t, gateOf(`"a"`, "1", spill), "a")
		r.set("a", func(s *Sink) { s.Behind = 5000 })
		r.pass(t, 1, 1)
		done, _ := r.order(t, 2)
		waits(t, done, DefaultTimeout-time.Nanosecond)
		<-time.After(time.Nanosecond)
		passes(t, done)
		_, err := r.door.Commit(t.Context(), 2)
		require.NoError(t, err)
		return r
	}

	t.Run("bytes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := begin(t)
			r.set("a", func(s *Sink) { s.Behind = 5999 })
			r.pass(t, 3, 3)
			require.Equal(t, Spills, last(r.phases()).Phase)
			r.set("a", func(s *Sink) { s.Behind = 6000 })
			done, _ := r.order(t, 4)
			waits(t, done, 0)
			require.Len(t, r.halts(), 1)
		})
	})

	t.Run("time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := begin(t)
			<-time.After(10*time.Minute - time.Nanosecond)
			r.pass(t, 3, 3)
			<-time.After(time.Nanosecond)
			done, _ := r.order(t, 4)
			waits(t, done, 0)
			require.Len(t, r.halts(), 1)
		})
	})

	t.Run("a restart of the process gives no new budget", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := begin(t)
			<-time.After(9 * time.Minute)
			r.begin(t)
			r.set("a", func(s *Sink) { s.Known = false })
			r.pass(t, 3, 3)
			<-time.After(time.Minute)
			done, _ := r.order(t, 4)
			waits(t, done, DefaultTimeout)
			require.Len(t, r.halts(), 1)
		})
	})

	t.Run("level again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := begin(t)
			r.has("a", 2)
			r.pass(t, 3, 3)
			require.Equal(t, Open, last(r.phases()).Phase)
			spills, err := readSpills(r.o.Data)
			require.NoError(t, err)
			require.Empty(t, spills)
			done, _ := r.order(t, 4) // the next outage begins with the timeout
			waits(t, done, DefaultTimeout-time.Nanosecond)
		})
	})
}

// A spill whose beginning cannot be written down does not begin.
func TestASpillThatCannotBeWrittenDownDoesNotBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, gateOf(`"a"`, "1", ""), "a")
		require.NoError(t, os.RemoveAll(r.o.Data))
		require.NoError(t, os.WriteFile(r.o.Data, nil, 0o600))
		r.pass(t, 1, 1)
		done, _ := r.order(t, 2)
		waits(t, done, time.Hour)
		require.NoError(t, os.Remove(r.o.Data))
		<-time.After(again)
		passes(t, done)
	})
}

// Item 42: an exemption lifts the gate, and ends by itself.
func TestAnExemptionEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, gateOf(`"a"`, "1", `on_exceed = "pause"`), "a")
		r.pass(t, 1, 1)
		done, _ := r.order(t, 2)
		waits(t, done, time.Minute)

		r.set("a", func(s *Sink) { s.Exempt = time.Now().Add(30 * time.Minute) })
		passes(t, done)
		_, err := r.door.Commit(t.Context(), 2)
		require.NoError(t, err)
		<-time.After(30*time.Minute - 1)
		r.pass(t, 3, 3)
		require.Equal(t, []string{"a"}, r.Statuses()[0].Exempt)

		<-time.After(1)
		require.Empty(t, r.Statuses()[0].Exempt)
		done, _ = r.order(t, 4)
		waits(t, done, time.Hour)
	})
}

// Item 73: a sink that a start leaves out is not waited for, until the process ends.
func TestASinkThatIsLeftOutIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, gateOf(`"a"`, "1", `on_exceed = "halt"`), "a")
		r.set("a", func(s *Sink) { s.Known = false })
		r.o.Without = []string{"a"}
		r.begin(t)
		r.pass(t, 1, 10)

		r.o.Without = nil
		r.begin(t)
		done, _ := r.order(t, 11)
		waits(t, done, DefaultTimeout)
		require.Len(t, r.halts(), 1)
	})
}

// Item 69: two gates. A block passes when both pass, and each acts by itself.
func TestABlockPassesWhenAllGatesPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, gateOf(`"a"`, "1", `on_exceed = "pause"`)+"\n[[gate]]\nname = \"mirrors\"\nsinks = [\"b\", \"c\"]\n"+
			"n = 1\non_exceed = \"drop\"\ntimeout = \"1m\"\n", "a", "b", "c")
		r.pass(t, 1, 1)

		done, _ := r.order(t, 2)
		waits(t, done, time.Second)
		r.has("b", 1)
		waits(t, done, time.Minute)
		require.Equal(t, []string{"books"}, gateNames(r.Held()))
		r.set("b", func(s *Sink) { s.Paused = true })
		r.has("a", 1) // mirrors had passed, and does no more
		waits(t, done, time.Minute-1)
		require.Equal(t, []string{"mirrors"}, gateNames(r.Held()))

		r.has("c", 1)
		passes(t, done)
		require.Empty(t, r.Held())
		require.Empty(t, r.dropped())
	})
}

func gateNames(list []Status) (names []string) {
	for _, s := range list {
		names = append(names, s.Gate)
	}
	return names
}

// R34: what the slot file of an earlier process says does not count. The sink itself must say it.
func TestNothingCountsBeforeTheSinkHasAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, gateOf(`"a"`, "1", `on_exceed = "pause"`), "a")
		r.set("a", func(s *Sink) { s.Known, s.At.Height = false, 100 })
		done, _ := r.order(t, 7)
		waits(t, done, time.Hour)
		r.set("a", func(s *Sink) { s.Known = true })
		passes(t, done)
	})
}

// Item 62, R33: what has passed in this process, and what the log has decided, passes at once. A
// decision that was lost is ordered again inside Commit, where nothing may wait.
func TestWhatHasPassedPassesAgainAtOnce(t *testing.T) {
	for what, mistake := range map[string]func(*rig){
		"": func(*rig) {},
		"seeded: the gate forgets what has passed": func(r *rig) { r.passed = chain.Block{} },
	} {
		synctest.Test(t, func(t *testing.T) {
			r := open(t, gateOf(`"a"`, "1", `on_exceed = "pause"`), "a")
			r.pass(t, 1, 1)
			r.has("a", 1)
			done, _ := r.order(t, 2)
			passes(t, done)

			r.set("a", func(s *Sink) { s.Known = false }) // the sink dies after the block has passed
			r.core.decided = nil                          // and the decision is lost
			mistake(r)
			done, _ = r.order(t, 2)
			synctest.Wait()
			require.Equal(t, what == "", len(done) == 1, "caught: %q", what)
		})
	}

	synctest.Test(t, func(t *testing.T) {
		r := open(t, gateOf(`"a"`, "1", `on_exceed = "pause"`), "a")
		r.set("a", func(s *Sink) { s.Known = false })
		decided := block(5)
		r.core.state.Height, r.core.decided = 4, &decided
		done, _ := r.order(t, 5)
		passes(t, done)
		done, _ = r.order(t, 4) // committed: ordering answers
		passes(t, done)

		other := block(5)
		other.Hash = []byte("another")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := r.door.Order(ctx, other)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// Item 70, "gate inside Commit": a commit never waits, whatever the sinks do meanwhile.
func TestACommitNeverWaits(t *testing.T) {
	for what, seeded := range map[string]bool{"": false, "seeded: the gate waits in Commit": true} {
		synctest.Test(t, func(t *testing.T) {
			r := open(t, gateOf(`"a"`, "1", `on_exceed = "pause"`), "a")
			commit := r.door.Commit
			if seeded {
				commit = func(ctx context.Context, h uint64) (chain.State, error) {
					if err := r.admit(ctx, block(h+1)); err != nil {
						return chain.State{}, err
					}
					return r.door.Commit(ctx, h)
				}
			}

			_, err := r.door.Order(t.Context(), block(1))
			require.NoError(t, err)
			r.set("a", func(s *Sink) { s.Known = false })
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			_, err = commit(ctx, 1)
			require.Equal(t, seeded, err != nil, "caught: %q", what)
		})
	}
}

// Item 63: a wait takes the faults of the child that waits: an error, a panic and a Goexit end the
// child, a hang ends with it, and the block is still held for the next incarnation.
func TestAWaitTakesFaults(t *testing.T) {
	for what, do := range map[string]func(context.Context){
		"panic":  func(context.Context) { panic("a fault") },
		"goexit": func(context.Context) { runtime.Goexit() },
		"hang":   func(context.Context) { <-time.After(time.Minute) },
		"kill":   nil,
	} {
		synctest.Test(t, func(t *testing.T) {
			r := open(t, gateOf(`"a"`, "1", `on_exceed = "pause"`), "a")
			r.pass(t, 1, 1)
			rec := suptest.NewRecorder()
			lives := 0
			sup, err := supervisor.New(supervisor.Spec{
				Name: "s", Intensity: supervisor.Intensity{Max: 10, Period: time.Minute},
				Observers: []supervisor.Observer{rec},
				Build: func(context.Context) ([]supervisor.Child, error) {
					return []supervisor.Child{{ID: "consensus", Orphan: supervisor.Abandon,
						Start: func(context.Context) (supervisor.Service, error) {
							lives++
							return supervisor.ServiceFunc(func(ctx context.Context) error {
								_, err := r.door.Order(ctx, block(2))
								if err != nil {
									return err
								}
								<-ctx.Done()
								return context.Cause(ctx)
							}), nil
						}}}, nil
				},
			})
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- sup.Serve(ctx) }()
			<-time.After(time.Minute)
			require.Equal(t, []string{"books"}, gateNames(r.Held()))

			if do != nil {
				require.NoError(t, sup.Inject(t.Context(), "consensus", supervisor.Fault{Name: what, Do: do}))
			}
			if do == nil || what == "hang" {
				require.NoError(t, sup.Kill("consensus", errors.New("a kill")))
			}
			<-time.After(10 * time.Second) // a hang is told to stop, and then abandoned
			synctest.Wait()
			require.Equal(t, 2, lives, what)
			require.Equal(t, []string{"books"}, gateNames(r.Held()), "%s: the new driver's block is held at once", what)
			require.Equal(t, []uint64{1}, r.core.heights())

			r.has("a", 1)
			synctest.Wait()
			require.Equal(t, []uint64{1, 2}, r.core.heights())
			cancel()
			<-ended
			<-time.After(time.Minute)
		})
	}
}

// A gate is held once a block has waited for 5 s without progress, and the news says so once.
func TestHeldIsToldOnceAndSoIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, gateOf(`"a"`, "1", `on_exceed = "pause"`), "a")
		var waited []time.Duration
		r.o.Waited = func(_ string, d time.Duration) { waited = append(waited, d) }
		r.begin(t)
		r.pass(t, 1, 1)
		done, _ := r.order(t, 2)
		waits(t, done, 4*time.Second)
		r.set("a", func(s *Sink) { s.Progress, s.State = time.Now(), "retrying" }) // slow is not held
		waits(t, done, HeldAfter-1)
		require.Empty(t, r.Held())
		require.Empty(t, r.phases())

		waits(t, done, 1)
		require.Len(t, r.Held(), 1)
		require.Equal(t, "gate books holds block 2, waiting for a (retrying, at height 0)", r.Held()[0].String())
		waits(t, done, time.Hour)
		r.has("a", 1)
		passes(t, done)

		require.Equal(t, []Phase{Held, Open}, phasesOf(r.phases()))
		require.EqualValues(t, 2, r.phases()[0].Height)
		require.Equal(t, []time.Duration{0, time.Hour + 9*time.Second}, waited)
	})
}

func last(list []Status) Status { return list[len(list)-1] }

func phasesOf(list []Status) (phases []Phase) {
	for _, s := range list {
		phases = append(phases, s.Phase)
	}
	return phases
}

// SIGHUP reads the file again: a gate that is gone holds nothing any more, and a bad file changes
// nothing.
func TestAReloadLetsAWaitingBlockPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, gateOf(`"a"`, "1", `on_exceed = "pause"`), "a")
		r.pass(t, 1, 1)
		done, _ := r.order(t, 2)
		waits(t, done, time.Minute)

		require.NoError(t, os.WriteFile(r.o.File, []byte("[[gate]]\n"), 0o600))
		require.ErrorIs(t, r.Reload(), ErrFile)
		waits(t, done, time.Minute)
		require.Equal(t, []string{"books"}, r.Of("a"))

		require.NoError(t, os.Remove(r.o.File))
		require.NoError(t, r.Reload())
		passes(t, done)
		require.Empty(t, r.Of("a"))
	})
}

// Item 59 in virtual time: in strict mode a block takes its own commit and the sink's, and no more.
func TestAStrictGateAddsNothingToTheTwoCommits(t *testing.T) {
	const own, sink, blocks = 7 * time.Millisecond, 11 * time.Millisecond, 1000
	synctest.Test(t, func(t *testing.T) {
		r := open(t, gateOf(`"a"`, `"all"`, `on_exceed = "halt"`), "a")
		commits := make(chan uint64, 1)
		go func() {
			for h := range commits {
				<-time.After(sink)
				r.has("a", h)
			}
		}()

		begun := time.Now()
		for h := uint64(1); h <= blocks; h++ {
			_, err := r.door.Order(t.Context(), block(h))
			require.NoError(t, err)
			<-time.After(own)
			_, err = r.door.Commit(t.Context(), h)
			require.NoError(t, err)
			commits <- h
		}
		require.LessOrEqual(t, time.Since(begun), blocks*(own+sink))
		close(commits)
		<-time.After(sink)
		require.True(t, slices.IsSorted(r.core.heights()))
	})
}
