package suptest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// In a test t is the test's own; an example has none.
type exampleT struct {
	testing.TB
	cleanups []func()
}

func (t *exampleT) Helper()                   {}
func (t *exampleT) Cleanup(f func())          { t.cleanups = append(t.cleanups, f) }
func (t *exampleT) Errorf(s string, a ...any) { fmt.Printf("error: "+s+"\n", a...) }
func (t *exampleT) Fatalf(s string, a ...any) { panic(fmt.Sprintf(s, a...)) }
func (t *exampleT) end() {
	for i := len(t.cleanups) - 1; i >= 0; i-- {
		t.cleanups[i]()
	}
}

// till is a service that breaks once.
func till() supervisor.Child {
	broken := false
	return supervisor.Child{ID: "till", Start: supervisor.Start(func(ctx context.Context) error {
		if !broken {
			broken = true
			return errors.New("drawer is stuck")
		}
		<-ctx.Done()
		return ctx.Err()
	})}
}

// A test waits for events, and asserts on the history.
func ExampleWait() {
	t := &exampleT{}
	defer t.end() // stops the tree, and checks that nothing of it is left

	_, rec := suptest.Start(t, supervisor.Spec{Name: "shop", Build: supervisor.Children(till())})

	second := suptest.Wait(t, rec, 2, func(e supervisor.ChildStarted) bool { return e.Path == "till" })
	fmt.Println(second.Path, "runs again")
	suptest.InOrder(t, rec,
		suptest.Is("till", func(e supervisor.ChildExited) bool { return e.Exit.Err.Error() == "drawer is stuck" }),
		suptest.Is("till", func(e supervisor.RestartScheduled) bool { return e.InWindow == 1 }),
		suptest.Is[supervisor.ChildStarted]("till"),
	)
	suptest.Never[supervisor.GaveUp](t, rec, nil)
	// Output: till runs again
}

// The same seed makes the same plan, so a failure can be repeated.
func ExampleNewPlan() {
	t := &exampleT{}
	defer t.end()

	run, rec := suptest.Start(t, supervisor.Spec{
		Strategy: supervisor.OneForAll, Intensity: supervisor.Intensity{Max: 100, Period: 1},
		Build: supervisor.Children(soft("a"), soft("b")),
	})

	plan := suptest.NewPlan(42, 3, []string{"a", "b"}, suptest.ByKill, suptest.ByPanic)
	for _, step := range plan.Steps {
		if err := step.Do(context.Background(), run); err != nil {
			fmt.Println(err)
		}
		rec.Settle(t, run)
		fmt.Println(step)
	}
	// Output:
	// panic a
	// kill a
	// panic b
}

// Laws checks any history, not only that of a test.
func ExampleLaws() {
	rec := suptest.NewRecorder()
	s, err := supervisor.New(supervisor.Spec{Name: "shop", Intensity: supervisor.Intensity{Period: 1},
		Observers: []supervisor.Observer{rec}, Build: supervisor.Children(till())})

	if err != nil {
		panic(err)
	}

	err = s.Serve(context.Background())
	fmt.Println(err)
	fmt.Println(suptest.Laws(rec.Events()))
	// Output:
	// supervisor gave up: reached maximum restart intensity (0 in 1ns): last was till: drawer is stuck
	// <nil>
}
