package suptest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soft is a service that takes faults.
func soft(id string) supervisor.Child {
	return supervisor.Child{ID: id, Start: supervisor.Start(func(ctx context.Context) error {
		for {
			select {
			case f := <-supervisor.Faults(ctx):
				f.Do(ctx)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})}
}

func TestPlan_SameSeedSamePlan(t *testing.T) {
	paths, ways := []string{"a", "b/c"}, []suptest.Way{suptest.ByKill, suptest.ByPanic, suptest.ByGoexit}
	p := suptest.NewPlan(7, 50, paths, ways...)
	require.Equal(t, p, suptest.NewPlan(7, 50, paths, ways...))
	require.NotEqual(t, p.Steps, suptest.NewPlan(8, 50, paths, ways...).Steps)
	require.Equal(t, suptest.ByKill, suptest.NewPlan(1, 1, paths).Steps[0].Way)
	require.Equal(t, "Way(9)", suptest.Way(9).String())
}

func TestPlan_EveryStepHeals(t *testing.T) {
	many := supervisor.Intensity{Max: 1000, Period: time.Hour}
	for seed := range uint64(5) {
		run, rec := suptest.Start(t, supervisor.Spec{Strategy: supervisor.RestForOne, Intensity: many,
			Build: supervisor.Children(
				soft("a"), supervisor.Child{ID: "b",
					Start: supervisor.Nested(supervisor.Spec{Strategy: supervisor.OneForAll, Intensity: many,
						Build: supervisor.Children(soft("c"), soft("d"))})}, soft("e"),
			)})
		healed := 0
		suptest.NewPlan(seed, 30, []string{"a", "b/c", "b/d", "e"}, suptest.ByKill, suptest.ByPanic,
			suptest.ByGoexit).Run(t, run, rec, func(suptest.Step) {
			healed++
			tree := run.Tree()
			tree.Walk(func(n supervisor.Tree) { require.Equal(t, supervisor.Running, n.State, "%s", tree) })
		})
		require.Equal(t, 30, healed)
	}
}

func TestRecorder(t *testing.T) {
	run, rec := suptest.Start(t, supervisor.Spec{Build: supervisor.Children(soft("a"))})
	mark := rec.Mark()
	require.NoError(t, run.Kill("a", suptest.ErrPlanned))
	e := suptest.After(t, rec, mark, 1, func(e supervisor.ChildStarted) bool { return e.Path == "a" })
	require.NotZero(t, e.Incarnation)
	suptest.Wait[supervisor.Killed](t, rec, 1, nil)
	require.Equal(t, 2, suptest.Count(rec, func(e supervisor.ChildStarted) bool { return e.Path == "a" }))
	require.Contains(t, rec.String(), "killed: planned failure")
}

// fake is a testing.TB that keeps messages and ends the goroutine on Fatal.
type fake struct {
	testing.TB
	said     []string
	cleanups []func()
}

func (f *fake) Helper()                   {}
func (f *fake) Errorf(s string, a ...any) { f.said = append(f.said, fmt.Sprintf(s, a...)) }
func (f *fake) Fatal(a ...any)            { f.said = append(f.said, fmt.Sprint(a...)); panic(f) }
func (f *fake) Fatalf(s string, a ...any) { f.Errorf(s, a...); panic(f) }
func (f *fake) Cleanup(c func())          { f.cleanups = append(f.cleanups, c) }
func (f *fake) Context() context.Context  { return context.Background() }
func (f *fake) run(body func(t testing.TB)) {
	defer func() {
		if v := recover(); v != nil && v != any(f) {
			panic(v)
		}
	}()
	body(f)
}

func (f *fake) end() {
	for i := len(f.cleanups) - 1; i >= 0; i-- {
		f.cleanups[i]()
	}
}

func TestFailuresAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{TB: t}
		f.run(func(t testing.TB) { suptest.Start(t, supervisor.Spec{Strategy: 9}) })
		f.run(func(t testing.TB) {
			suptest.Start(t, supervisor.Spec{Build: func(context.Context) ([]supervisor.Child, error) {
				return nil, errors.New("no build")
			}})
		})
		f.run(func(t testing.TB) { suptest.Wait[supervisor.GaveUp](t, suptest.NewRecorder(), 1, nil) })
		release := make(chan struct{})
		f.run(func(tb testing.TB) {
			run, rec := suptest.Start(tb, supervisor.Spec{Intensity: supervisor.Intensity{Period: time.Hour},
				Build: supervisor.Children(supervisor.Child{ID: "deaf",
					Start: supervisor.Start(func(context.Context) error {
						<-release
						return nil
					})})})
			rec.Settle(tb, run)
			suptest.NewPlan(3, 1, []string{"nobody"}).Run(tb, run, rec, nil)
		})

		f.run(func(tb testing.TB) {
			run, rec := suptest.Start(tb,
				supervisor.Spec{
					Build: supervisor.Children(supervisor.Child{ID: "hard",
						Start: supervisor.Start(func(ctx context.Context) error {
							<-ctx.Done()
							return nil
						})})})
			suptest.NewPlan(4, 1, []string{"hard"}, suptest.ByPanic).Run(tb, run, rec, nil)
		})

		f.run(func(tb testing.TB) {
			c := suptest.Context(tb, "engine")
			require.Equal(t, "engine", supervisor.Path(c))
			require.NoError(t, supervisor.Go(c, func(context.Context) error { return errors.New("descendant") }))
			<-c.Done()
			synctest.Wait()
		})
		f.end()
		close(release)
		all := strings.Join(f.said, "\n")

		for _, want := range []string{"Strategy", "no build", "no supervisor.GaveUp number 1 within 720h0m0s",
			"seed 3, step 0: no child nobody", "seed 4, step 0, panic hard", "descendant", "orphan: deaf"} {
			require.Contains(t, all, want)
		}
	})
}

func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		child := soft("a")
		child.Orphan, child.Shutdown = supervisor.Abandon, time.Second
		run, rec := suptest.Start(t, supervisor.Spec{Build: supervisor.Children(child)})
		release := make(chan struct{})
		require.NoError(t, run.Inject(t.Context(), "a", suptest.Hang(release)))
		require.ErrorIs(t, run.TerminateChild(t.Context(), "a"), supervisor.ErrOrphan)
		require.Len(t, run.Orphans(), 1)
		close(release)
		suptest.Wait[supervisor.OrphanEnded](t, rec, 1, nil)
	})
}
