//go:build unix

package process_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

const (
	modeKey   = "PROCESS_TEST_MODE"   // set in re-executions of the test binary
	socketKey = "PROCESS_TEST_SOCKET" // the socket that the puppet connects to
	nameKey   = "PROCESS_TEST_NAME"

	quick = "GORACE=atexit_sleep_ms=0" // the race detector's exits take a second otherwise
)

func TestMain(m *testing.M) {
	switch os.Getenv(modeKey) {
	case "":
		goleak.VerifyTestMain(m)

	case "puppet":
		puppet()

	case "watcher":
		process.WatchParent()
		fmt.Println("ready")
		puppet()

	case "init":
		initProcess()

	case "parent", "parent+guard", "parent+self":
		parent(os.Getenv(modeKey))
	}
}

// puppet executes the commands in its arguments, prints "ready", and then executes those that come
// over the socket. Its connection ends with it, so tests learn of its death.
func puppet() {
	home, err := net.Dial("unix", os.Getenv(socketKey))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}

	fmt.Fprintf(home, "%s %d\n", os.Getenv(nameKey), os.Getpid())
	for _, c := range os.Args[1:] {
		do(c)
	}

	fmt.Println("ready")

	for in := bufio.NewScanner(home); in.Scan(); {
		do(in.Text())
		fmt.Fprintln(home, "done")
	}

	os.Exit(98)
}

var held = make(chan os.Signal, 10)

func do(command string) {
	verb, arg, _ := strings.Cut(command, " ")
	switch verb {
	case "exit":
		n, _ := strconv.Atoi(arg)
		os.Exit(n)

	case "say":
		fmt.Println(arg)

	case "complain":
		fmt.Fprintln(os.Stderr, arg)

	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))

	case "flood": // one line without an end, then a short one
		n, _ := strconv.Atoi(arg)
		_, _ = os.Stdout.Write(append(bytes.Repeat([]byte{'x'}, n), "\nflooded\n"...))

	case "deaf":
		signal.Ignore(syscall.SIGTERM)

	case "trap":
		n, _ := strconv.Atoi(arg)
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		go func() { <-c; os.Exit(n) }()

	case "hold": // these signals only wait for await
		signal.Notify(held, syscall.SIGTERM, syscall.SIGWINCH)

	case "await": // the signal, which must be the first
		if first := <-held; first.String() != arg {
			panic("the first signal was: " + first.String())
		}

	case "terminal":
		for _, f := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
			info, err := f.Stat()
			fmt.Println(err == nil && info.Mode()&os.ModeCharDevice != 0)
		}

	case "accept": // once, on the descriptor with that number
		n, _ := strconv.Atoi(arg)
		ln, err := net.FileListener(os.NewFile(uintptr(n), "socket"))
		if err != nil {
			panic(err)
		}
		go func() {
			conn, err := ln.Accept()
			if err != nil {
				panic(err)
			}
			fmt.Fprintf(conn, "pid %d", os.Getpid())
			conn.Close()
		}()

	case "listen":
		if _, err := net.Listen("unix", arg); err != nil {
			panic(err)
		}

	case "touch":
		if err := os.WriteFile(arg, nil, 0o600); err != nil {
			panic(err)
		}

	case "fork", "fork-away": // a descendant that shares the output; the second leaves the group too
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), nameKey+"=descendant")
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: verb == "fork-away"}
		if err := c.Start(); err != nil {
			panic(err)
		}

	case "setsid":
		if _, err := syscall.Setsid(); err != nil {
			panic(err)
		}

	case "hang":
		select {}

	default:
		panic("unknown command " + command)
	}
}

// parent supervises a puppet with a descendant, and does not stop by itself.
func parent(mode string) {
	spec := puppetSpec(os.Getenv(socketKey), "child")
	spec.Guard = mode == "parent+guard"

	if mode == "parent+self" {
		var err error
		if spec.Path, spec.Argv0, err = process.Self(); err != nil {
			panic(err)
		}
	}

	s, err := supervisor.New(supervisor.Spec{Build: supervisor.Children(process.Child(spec))})
	if err == nil {
		err = s.Serve(context.Background())
	}

	fmt.Fprintln(os.Stderr, err)
	os.Exit(97)
}

// home accepts the connections of puppets.
type home struct {
	socket string
	calls  chan *caller
}

// caller is a puppet that has connected.
type caller struct {
	conn net.Conn
	in   *bufio.Scanner
	name string
	pid  int
}

func newHome(t testing.TB) *home {
	dir, err := os.MkdirTemp("", "home") // t.TempDir is too long for a socket's path
	require.NoError(t, err)
	h := &home{socket: filepath.Join(dir, "s"), calls: make(chan *caller, 100)}
	ln, err := net.Listen("unix", h.socket)
	require.NoError(t, err)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			c := &caller{conn: conn, in: bufio.NewScanner(conn)}
			if c.in.Scan() {
				_, _ = fmt.Sscan(c.in.Text(), &c.name, &c.pid)
			}

			h.calls <- c
		}
	}()

	t.Cleanup(func() {
		ln.Close()
		<-over
		close(h.calls)
		for c := range h.calls { // those that the test did not wait for
			c.conn.Close()
		}
		os.RemoveAll(dir)
	})

	return h
}

// wait returns the next puppet that connects.
func (h *home) wait(t testing.TB, name string) *caller {
	t.Helper()
	select {
	case c := <-h.calls:
		t.Cleanup(func() { c.conn.Close() })
		require.Equal(t, name, c.name)
		return c
	case <-time.After(suptest.DefaultTimeout):
		require.FailNow(t, "no call", "of %s", name)
		return nil
	}
}

// tell makes the puppet execute a command, and returns when it has.
func (c *caller) tell(t testing.TB, command string) {
	t.Helper()
	c.order(t, command)
	require.True(t, c.in.Scan(), "%s: no answer to %q: %v", c.name, command, c.in.Err())
}

// order sends a command without waiting for an answer, because some commands give none.
func (c *caller) order(t testing.TB, command string) {
	t.Helper()
	_, err := fmt.Fprintln(c.conn, command)
	require.NoError(t, err)
}

// gone waits for the puppet's death.
func (c *caller) gone(t testing.TB) {
	t.Helper()
	require.NoError(t, c.conn.SetReadDeadline(time.Now().Add(suptest.DefaultTimeout)))
	for c.in.Scan() {
		require.Equal(t, "done", c.in.Text())
	}
	require.False(t, errors.Is(c.in.Err(), os.ErrDeadlineExceeded), "%s, pid %d, lives", c.name, c.pid)
}

// puppetSpec returns a Spec that executes the test binary as a puppet.
func puppetSpec(socket, name string, commands ...string) process.Spec {
	return process.Spec{
		Name: name, Path: os.Args[0], Args: commands,
		// without it, a binary under coverage complains
		Env: []string{modeKey + "=puppet", socketKey + "=" + socket, nameKey + "=" + name, quick, "GOCOVERDIR=" +
			filepath.Dir(socket)},
		Ready: process.Line(func(line []byte) bool { return string(line) == "ready" }),
	}
}

// root returns a supervisor of one process that tolerates n restarts.
func root(n int, children ...supervisor.Child) supervisor.Spec {
	return supervisor.Spec{Name: "root", Intensity: supervisor.Intensity{Max: n, Period: time.Hour},
		Build: supervisor.Children(children...)}
}

// reaped fails the test if the process is still there, even as a zombie.
func reaped(t testing.TB, pid int) {
	t.Helper()
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH, "pid %d is there", pid)
}

// noChildren fails the test if this process has a child, dead or alive.
func noChildren(t testing.TB) {
	t.Helper()
	_, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
	require.ErrorIs(t, err, syscall.ECHILD, "there are children")
}

// exitOf returns the ExitError in err.
func exitOf(t testing.TB, err error) *process.ExitError {
	t.Helper()
	var e *process.ExitError
	require.ErrorAs(t, err, &e)
	return e
}

func exited(t testing.TB, rec *suptest.Recorder, n int) supervisor.ChildExited {
	t.Helper()
	return suptest.Wait[supervisor.ChildExited](t, rec, n, nil)
}
