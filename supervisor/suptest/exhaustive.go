package suptest

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/coppice-go/coppice/supervisor"
)

// Run runs a tree under virtual time: in a bubble of testing/synctest, where shutdown times,
// backoffs and periods pass at once, and only when nothing else can happen. The tree is started
// before body is called and stopped afterwards. The test fails if anything of the tree is left
// then, or if its history breaks one of the Laws.
func Run(t *testing.T, spec supervisor.Spec, body func(t *testing.T, run *supervisor.Run, rec *Recorder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		run, rec := Start(t, spec)
		body(t, run, rec)
		_ = run.Stop(context.Background())
		synctest.Wait()
		NoOrphans(t, run)
		NoLeaks(t, run)
	})
}

// Scenario is a tree and what happens to it, for EveryChildAtEveryEvent.
type Scenario struct {
	// Spec returns a new specification of the tree for each play.
	Spec func() supervisor.Spec
	// Drive, if not nil, does something to the tree once it runs. The tree may have given up by
	// then. Two plays without a failure should give the same events.
	Drive func(run *supervisor.Run)
	// Check, if not nil, checks the tree when nothing happens any more after Drive and the failure.
	// The run may have ended: see Run.Done.
	Check func(t testing.TB, run *supervisor.Run, rec *Recorder)
	// Ways are the ways to fail; without any, ByKill is used. For the other ways children must read
	// supervisor.Faults. If a child does not, the play goes on without a failure.
	Ways []Way
}

// EveryChildAtEveryEvent is the exhaustive kill plan. It plays the scenario once undisturbed. Then
// it plays it once for each combination of an event of that history, a child that started in it,
// and a way to fail: the child fails as soon as that event has happened, even during the start of
// the tree. Each play runs under virtual time, is stopped at the end, must leave nothing behind,
// and must obey the Laws. EveryChildAtEveryEvent returns how many plays there were, and in how many
// of them the child was there to fail.
func EveryChildAtEveryEvent(t *testing.T, s Scenario) (plays, struck int) {
	t.Helper()
	ways := s.Ways
	if len(ways) == 0 {
		ways = []Way{ByKill}
	}

	calm := s.play(t, nil)
	var paths []string

	for _, e := range calm.events {
		if _, ok := e.(supervisor.ChildStarting); ok && !slices.Contains(paths, e.Head().Path) {
			paths = append(paths, e.Head().Path)
		}
	}

	for at := range calm.events {
		for _, path := range paths {
			for _, way := range ways {
				if t.Failed() {
					return plays, struck // the first failure has been reported, with its whole history
				}
				plays++
				if s.play(t, &strike{Step{Path: path, Way: way}, uint64(at + 1)}).struck {
					struck++
				}
			}
		}
	}

	return plays, struck
}

// strike is a step that is done at one event.
type strike struct {
	Step
	seq uint64
}

type played struct {
	events []supervisor.Event
	struck bool
}

// play plays the scenario once, with at most one failure.
func (s Scenario) play(t *testing.T, strike *strike) (out played) {
	t.Helper()
	name := "the undisturbed play"
	if strike != nil {
		name = fmt.Sprintf("%v at event %d", strike.Step, strike.seq)
	}

	synctest.Test(t, func(t *testing.T) {
		rec := NewRecorder()
		spec := s.Spec()
		var sup *supervisor.Supervisor
		var before atomic.Uint64
		var struck atomic.Bool
		striker := supervisor.ObserverFunc(func(e supervisor.Event) {
			if strike == nil || e.Head().Seq != strike.seq {
				return
			}
			if run, err := sup.Run(); err == nil {
				target, _ := run.Tree().Find(strike.Path)
				before.Store(target.Incarnation)
				struck.Store(strike.Do(context.Background(), run) == nil)
			}
		})
		spec.Observers = append(slices.Clone(spec.Observers), striker, rec)
		sup, err := supervisor.New(spec)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if t.Failed() {
				t.Logf("in %s; the history is:\n%s", name, rec)
			}
		}()

		run, err := sup.Start(context.Background())
		if err == nil {
			if s.Drive != nil {
				s.Drive(run)
			}

			synctest.Wait()
			rec.until(t, "settled tree after "+name, run.Changed, func() bool {
				select {
				case <-run.Done():
					return true
				default:
				}

				tree := run.Tree()
				if strike == nil || !tree.Settled() {
					return tree.Settled()
				}

				failed, ok := tree.Find(strike.Path)
				return !struck.Load() || !ok || failed.Incarnation != before.Load()
			})

			if s.Check != nil {
				s.Check(t, run, rec)
			}

			_ = run.Stop(context.Background())
			synctest.Wait()
			NoOrphans(t, run)
			NoLeaks(t, run)
		} else if strike == nil {
			t.Errorf("start: %v", err)
		}

		synctest.Wait()
		rec.Lawful(t)
		out = played{rec.Events(), struck.Load()}
	})
	return out
}
