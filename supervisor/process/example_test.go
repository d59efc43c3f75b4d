//go:build unix

package process_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"syscall"
	"time"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
)

// A database is killed from outside. The service that depends on it starts when it listens, and
// starts again after it.
func Example() {
	db := process.Child(process.Spec{
		Name:  "db",
		Path:  "/bin/sh",
		Args:  []string{"-c", `echo "loading" >&2; echo "listening"; read command`},
		Env:   process.Inherit("PATH"),
		Ready: process.Line(regexp.MustCompile(`^listening$`).Match),
	})
	served := make(chan struct{})
	app := supervisor.Child{ID: "app", Start: supervisor.Start(func(ctx context.Context) error {
		fmt.Println("app: the database is ready")
		served <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	})}
	s, err := supervisor.New(supervisor.Spec{
		Strategy:  supervisor.RestForOne,
		Intensity: supervisor.Intensity{Max: 3, Period: time.Minute},
		Build:     supervisor.Children(db, app),
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	run, err := s.Start(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}

	<-served

	info, err := run.WhichChild("db")
	if err != nil {
		fmt.Println(err)
		return
	}

	exit := supervisor.Monitor(info.Ref)
	if err := syscall.Kill(info.Ref.Info().(process.Info).PID, syscall.SIGKILL); err != nil {
		fmt.Println(err)
	}
	var end *process.ExitError
	if errors.As((<-exit).Err, &end) {
		fmt.Println("db:", end.Signal, end.LastLines)
	}

	<-served
	fmt.Println("stop:", run.Stop(context.Background()))
	// Output:
	// app: the database is ready
	// db: killed [loading]
	// app: the database is ready
	// stop: <nil>
}
