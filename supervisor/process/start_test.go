//go:build unix

package process_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// startFails starts a root with the given child, whose start must fail, and returns the error.
func startFails(t *testing.T, child supervisor.Child) error {
	t.Helper()
	run, err := mustNew(t, root(0, child)).Start(context.Background())
	require.Nil(t, run)
	var failed *supervisor.StartError
	require.ErrorAs(t, err, &failed)
	return failed.Root().Err
}

// The start is acknowledged by the probe, and not before.
func TestReady(t *testing.T) {
	dir := t.TempDir()
	t.Run("line", func(t *testing.T) {
		h := newHome(t)
		run, _ := suptest.Start(t, root(0, process.Child(puppetSpec(h.socket, "child", "say almost ready"))))
		info, err := run.WhichChild("child")
		require.NoError(t, err)
		puppet := h.wait(t, "child")
		require.Equal(t, process.Info{PID: puppet.pid, Group: puppet.pid}, info.Ref.Info())
	})

	t.Run("line on stderr", func(t *testing.T) {
		h := newHome(t)
		spec := puppetSpec(h.socket, "child", "complain listening")
		spec.Ready = process.Line(func(line []byte) bool { return string(line) == "listening" })
		suptest.Start(t, root(0, process.Child(spec)))
	})

	t.Run("dial", func(t *testing.T) {
		h := newHome(t)
		spec := puppetSpec(h.socket, "child", "listen "+h.socket+"2")
		spec.Ready = process.Dial("unix", h.socket+"2")
		suptest.Start(t, root(0, process.Child(spec)))
	})

	t.Run("file", func(t *testing.T) {
		h := newHome(t)
		spec := puppetSpec(h.socket, "child", "touch "+filepath.Join(dir, "ready"))
		spec.Ready = process.File(filepath.Join(dir, "ready"))
		suptest.Start(t, root(0, process.Child(spec)))
		require.FileExists(t, filepath.Join(dir, "ready"))
	})

	t.Run("http", func(t *testing.T) {
		var asked atomic.Int32
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if asked.Add(1) < 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		defer srv.Close()

		suptest.Start(t, root(0, process.Child(process.Spec{Path: "/bin/cat", Ready: process.HTTP(srv.URL)})))
		require.Equal(t, int32(3), asked.Load())
	})

	t.Run("func", func(t *testing.T) {
		asked := 0
		suptest.Start(t, root(0,
			process.Child(process.Spec{Path: "/bin/cat", Ready: process.Func(func(context.Context) error {
				if asked++; asked < 3 {
					return errors.New("wait")
				}
				return nil
			})})))
		require.Equal(t, 3, asked)
	})
}

func TestNeverReady(t *testing.T) {
	t.Run("in time", func(t *testing.T) {
		h := newHome(t)
		spec := puppetSpec(h.socket, "child")
		spec.Ready, spec.ReadyTimeout = process.File(h.socket+".never"), 50*time.Millisecond
		err := startFails(t, process.Child(spec))
		require.ErrorIs(t, err, process.ErrNotReady)
		require.ErrorIs(t, err, fs.ErrNotExist, "what the probe last said")
		require.ErrorContains(t, err, "within 50ms")
		e := exitOf(t, err)
		require.True(t, e.Asked)
		reaped(t, e.PID)
	})

	t.Run("OTP rule 15", func(t *testing.T) {
		child := process.Child(process.Spec{Path: "/bin/cat", Ready: process.File("/nowhere")})
		child.StartTimeout = 100 * time.Millisecond
		require.ErrorIs(t, startFails(t, child), supervisor.ErrStartTimeout)
		noChildren(t)
	})

	t.Run("stopped before", func(t *testing.T) {
		h := newHome(t)
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan error)
		go func() { over <- mustNew(t, root(0, process.Child(puppetSpec(h.socket, "child", "hang")))).Serve(ctx) }()
		puppet := h.wait(t, "child")
		cancel()
		<-over
		puppet.gone(t)
		reaped(t, puppet.pid)
	})

	t.Run("panic of the probe", func(t *testing.T) {
		h := newHome(t)
		spec := puppetSpec(h.socket, "child")
		spec.Ready = process.Func(func(context.Context) error { panic(suptest.ErrPlanned) })
		require.ErrorIs(t, startFails(t, process.Child(spec)), suptest.ErrPlanned)
	})
}

func TestDiesBeforeReady(t *testing.T) {
	for _, status := range []string{"4", "0"} {
		h := newHome(t)
		err := startFails(t, process.Child(puppetSpec(h.socket, "child", "complain no disk", "complain giving up",
			"exit "+status)))
		require.ErrorIs(t, err, process.ErrNotReady)
		e := exitOf(t, err)
		require.Equal(t, []string{"no disk", "giving up"}, e.LastLines)
		require.ErrorContains(t, err, "exit status "+status+"; last on stderr: no disk | giving up")
		reaped(t, e.PID)
	}
}

// A process that was ready has started, even if it ended before its start returned: its end is that
// of a running child.
func TestWasReadyAndEnded(t *testing.T) {
	ready := process.Func(func(context.Context) error { return nil })
	for name, spec := range map[string]process.Spec{
		"no probe":          {Path: "/bin/sh", Args: []string{"-c", "exit 3"}, ExitZero: process.ExitZeroAbnormal},
		"a probe that held": {Path: "/bin/sh", Args: []string{"-c", "exit 3"}, Ready: ready},
		"a line, and the end": {Path: "/bin/sh", Args: []string{"-c", "echo ready"}, Ready: process.Line(func(
			line []byte) bool {
			return string(line) == "ready"
		})},
	} {
		t.Run(name, func(t *testing.T) {
			for range 100 {
				child := process.Child(spec)
				child.Restart = supervisor.Temporary
				suptest.Start(t, root(0, child))
			}
		})
	}
}

func TestCannotStart(t *testing.T) {
	for _, guard := range []bool{false, true} {
		err := startFails(t, process.Child(process.Spec{Path: "/nowhere/prog", Guard: guard}))
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorContains(t, err, "process prog: ")
	}
	require.ErrorIs(t, startFails(t, process.Child(process.Spec{Path: "/bin/cat", Dir: "/nowhere"})), fs.ErrNotExist)
	_, err := process.Start(process.Spec{Path: "/bin/cat"})(context.Background())
	require.ErrorIs(t, err, supervisor.ErrNotSupervised)
}

func TestSpecIsChecked(t *testing.T) {
	for want, spec := range map[string]process.Spec{
		"Path is empty":         {Name: "x"},
		"MaxLine is 3":          {Path: "x", MaxLine: 3},
		"ReadyTimeout is -1ns":  {Path: "x", ReadyTimeout: -1},
		"Grace is -2ns":         {Path: "x", Grace: -2},
		"TermSignal is -1":      {Path: "x", TermSignal: -1},
		"ExitZero is ExitZero(": {Path: "x", ExitZero: 7},
		`network "udp"`:         {Path: "x", Ready: process.Dial("udp", "")},
		"Ready: Line":           {Path: "x", Ready: process.Line(nil)},
		"Ready: Func":           {Path: "x", Ready: process.Func(nil)},
		"Ready: parse":          {Path: "x", Ready: process.HTTP("http://%zz")},
	} {
		err := startFails(t, supervisor.Child{ID: "x", Start: process.Start(spec)})
		require.ErrorIs(t, err, supervisor.ErrSpec)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, `process "x"`)
	}
}

// The supervisor waits longer than the process may take. Otherwise it would declare orphans where
// there are none.
func TestChildLeavesRoom(t *testing.T) {
	c := process.Child(process.Spec{Path: "/usr/bin/db"})
	require.Equal(t, "db", c.ID)
	require.Greater(t, c.Shutdown, process.DefaultGrace+process.DrainTime)
	require.Greater(t, c.StartTimeout, process.DefaultReadyTimeout+c.Shutdown-1)
	require.Less(t, process.DefaultGrace+process.DrainTime, supervisor.DefaultShutdown)
	require.Less(t, process.DefaultReadyTimeout, supervisor.DefaultStartTimeout)
	c = process.Child(process.Spec{Name: "x", Path: "y", Grace: supervisor.Infinity})
	require.Equal(t, supervisor.Infinity, c.Shutdown)
	require.Equal(t, supervisor.Infinity, c.StartTimeout)
	c = process.Child(process.Spec{Path: "y", Grace: supervisor.Brutal})
	require.Greater(t, c.Shutdown, process.DrainTime)
}

// A process that runs this program again gets its name, not the path by which the kernel finds it.
func TestSelf(t *testing.T) {
	h := newHome(t)
	spec := puppetSpec(h.socket, "child", "env")
	var err error
	spec.Path, spec.Argv0, err = process.Self()
	require.NoError(t, err)
	if runtime.GOOS == "linux" {
		require.NotEqual(t, spec.Path, spec.Argv0)
	}

	require.Equal(t, os.Args[0], spec.Argv0)
	suptest.Start(t, root(0, process.Child(spec)))
	h.wait(t, "child")
}
