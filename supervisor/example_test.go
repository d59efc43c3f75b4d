package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

// A worker that fails is started again with fresh state; the database that it depends on is not
// touched.
func Example() {
	lives := 0
	s, err := supervisor.New(supervisor.Spec{
		Name:      "app",
		Strategy:  supervisor.RestForOne,
		Intensity: supervisor.Intensity{Max: 3, Period: 10 * time.Second},
		Build: supervisor.Children(
			supervisor.Child{ID: "database", Ack: supervisor.AckReady,
				Start: supervisor.Start(func(ctx context.Context) error {
					fmt.Println("database opens")
					supervisor.Ready(ctx)
					<-ctx.Done()
					fmt.Println("database closes")
					return ctx.Err()
				})},
			supervisor.Child{ID: "worker", Start: func(context.Context) (supervisor.Service, error) {
				lives++
				life := lives
				return supervisor.ServiceFunc(func(ctx context.Context) error {
					fmt.Println("worker begins life", life)
					return errors.New("disk on fire")
				}), nil
			}},
		),
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	fmt.Println(s.Serve(context.Background()))
	// Output:
	// database opens
	// worker begins life 1
	// worker begins life 2
	// worker begins life 3
	// worker begins life 4
	// database closes
	// supervisor gave up: reached maximum restart intensity (3 in 10s): last was worker: disk on fire
}

// A watchdog has its own supervisor stop and start a sibling that it finds hanging. That counts
// against no limit.
func ExampleRecycle() {
	hanging := make(chan struct{})
	lives := 0
	var s *supervisor.Supervisor
	s, err := supervisor.New(supervisor.Spec{Name: "app", AutoShutdown: supervisor.AnySignificant,
		Build: supervisor.Children(
			supervisor.Child{ID: "worker", Start: supervisor.Start(func(ctx context.Context) error {
				lives++
				fmt.Println("worker begins life", lives)
				if lives == 1 {
					close(hanging)
				}
				<-ctx.Done()
				return ctx.Err()
			})},
			supervisor.Child{ID: "watchdog", Restart: supervisor.Transient, Significant: true,
				Start: supervisor.Start(func(ctx context.Context) error {
					// the watchdog's previous life may have ended between stop and start
					if err := supervisor.Revive(ctx, s, "worker"); err != nil {
						return err
					}
					<-hanging
					fmt.Println("watchdog barks")
					return supervisor.Recycle(ctx, s, "worker")
				})},
		)})
	if err != nil {
		fmt.Println(err)
		return
	}

	fmt.Println(s.Serve(context.Background()))
	fmt.Println(lives, "lives, within the limit", s.Tree().InWindow)
	// Output:
	// worker begins life 1
	// watchdog barks
	// worker begins life 2
	// automatic shutdown: significant child watchdog ended: normal
	// 2 lives, within the limit 0
}

// One child is started for each task, as tasks arrive.
func ExampleDynamic() {
	tasks, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{
		Restart: supervisor.Temporary,
		Start: func(_ context.Context, n int) (supervisor.Service, error) {
			return supervisor.ServiceFunc(func(context.Context) error {
				if n == 2 {
					panic("two")
				}
				return nil
			}), nil
		},
	})

	if err != nil {
		fmt.Println(err)
		return
	}

	root, err := supervisor.New(supervisor.Spec{Build: supervisor.Children(
		supervisor.Child{ID: "tasks", Start: func(context.Context) (supervisor.Service, error) { return tasks, nil }},
	)})
	if err != nil {
		fmt.Println(err)
		return
	}

	ctx := context.Background()
	run, err := root.Start(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}

	for n := range 3 {
		ref, err := tasks.StartChild(ctx, fmt.Sprintf("task-%d", n), n)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(ref.Path(), "ended:", <-supervisor.Monitor(ref))
	}

	fmt.Println(run.Stop(ctx))
	// Output:
	// tasks/task-0 ended: normal
	// tasks/task-1 ended: normal
	// tasks/task-2 ended: panic: two
	// <nil>
}
