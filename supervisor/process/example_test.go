//go:build unix

package process_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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

// The listening socket belongs to this program and outlives each incarnation of the server, so that
// clients which connect during a restart wait, and are not refused. A server that speaks the
// protocol of sd_listen_fds(3) finds it as descriptor 3.
func ExampleSpec_sockets() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ln.Close()

	socket, err := ln.(*net.TCPListener).File()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer socket.Close()

	ended := make(chan struct{})
	server := process.Child(process.Spec{
		Name:    "server",
		Path:    "/bin/sh", // stands for a server
		Args:    []string{"-c", `test $$ = $LISTEN_PID && echo "$LISTEN_FDS socket, named $LISTEN_FDNAMES"`},
		Sockets: []process.Socket{{Name: "web", File: socket}},
		Umask:   "027",
		Stdout:  func(line []byte) { fmt.Println(string(line)); close(ended) },
	})
	server.Restart = supervisor.Temporary

	supervise(server, ended)
	// Output:
	// 1 socket, named web
}

// A program reads its standard input to the end. Each incarnation gets it anew.
func ExampleSpec_stdin() {
	ended := make(chan struct{})
	sort := process.Child(process.Spec{
		Path: "/usr/bin/sort",
		Stdin: func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, "pear\napple\n")
			return err
		},
		Stdout: func(line []byte) {
			if fmt.Println(string(line)); string(line) == "pear" {
				close(ended)
			}
		},
	})
	sort.Restart = supervisor.Temporary

	supervise(sort, ended)
	// Output:
	// apple
	// pear
}

// supervise runs a supervisor of one child until ended is closed.
func supervise(child supervisor.Child, ended <-chan struct{}) {
	s, err := supervisor.New(supervisor.Spec{Build: supervisor.Children(child)})
	if err != nil {
		fmt.Println(err)
		return
	}

	run, err := s.Start(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}

	<-ended
	if err := run.Stop(context.Background()); err != nil {
		fmt.Println(err)
	}
}
