// Command embed supervises one worker. One of its jobs makes the worker panic. The supervisor then
// starts the worker again with fresh state, and the worker does the remaining jobs. When the worker
// ends normally, the tree stops.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

// worker is the state of one incarnation. A restart makes a new worker.
type worker struct {
	jobs <-chan string // shared by all incarnations: a restart loses only the job that failed
	done int
}

func (w *worker) Serve(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case job, more := <-w.jobs:
			switch {
			case !more:
				return nil
			case job == "bad":
				panic("a job that nobody expected")
			}
			w.done++
			fmt.Println("did", job)
		}
	}
}

func main() {
	jobs := make(chan string, 3)
	for _, job := range []string{"first", "bad", "last"} {
		jobs <- job
	}
	close(jobs)

	tree, err := supervisor.New(supervisor.Spec{
		Name:         "example",
		Intensity:    supervisor.Intensity{Max: 3, Period: 10 * time.Second},
		AutoShutdown: supervisor.AnySignificant,
		Build: supervisor.Children(supervisor.Child{
			ID:          "worker",
			Restart:     supervisor.Transient,
			Significant: true,
			Start: func(context.Context) (supervisor.Service, error) {
				return &worker{jobs: jobs}, nil
			},
		}),
		Observers: []supervisor.Observer{supervisor.ObserverFunc(func(e supervisor.Event) { fmt.Println(e) })},
	})
	if err == nil {
		err = tree.Serve(context.Background())
	}

	var ended *supervisor.AutoShutdownError
	if err != nil && !errors.As(err, &ended) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
