//go:build unix

package process_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// OTP rule 36, for processes: the class of an end that the supervisor did not ask for.
func TestEndsByItself(t *testing.T) {
	kill := func(sig syscall.Signal) func(*testing.T, *caller) {
		return func(t *testing.T, c *caller) { require.NoError(t, syscall.Kill(c.pid, sig)) }
	}

	order := func(s string) func(*testing.T, *caller) {
		return func(t *testing.T, c *caller) { c.order(t, s) }
	}
	for _, c := range []struct {
		name   string
		end    func(*testing.T, *caller)
		zero   process.ExitZero
		normal bool
		status int
		signal syscall.Signal
	}{
		{name: "status 3", end: order("exit 3"), status: 3},
		{name: "status 0", end: order("exit 0"), normal: true},
		{name: "status 0 abnormal", end: order("exit 0"), zero: process.ExitZeroAbnormal},
		{name: "SIGKILL", end: kill(syscall.SIGKILL), status: -1, signal: syscall.SIGKILL},
		{name: "SIGTERM of another's", end: kill(syscall.SIGTERM), status: -1, signal: syscall.SIGTERM},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHome(t)
			spec := puppetSpec(h.socket, "child", "complain it began")
			spec.ExitZero = c.zero
			child := process.Child(spec)
			child.Restart = supervisor.Temporary
			_, rec := suptest.Start(t, root(0, child))
			puppet := h.wait(t, "child")
			c.end(t, puppet)
			exit := exited(t, rec, 1).Exit
			reaped(t, puppet.pid)

			if c.normal {
				require.Equal(t, supervisor.Normal, exit.Class)
				return
			}

			require.Equal(t, supervisor.Abnormal, exit.Class)
			e := exitOf(t, exit.Err)
			require.Equal(t, &process.ExitError{Name: "child", PID: puppet.pid, Status: c.status, Signal: c.signal,
				LastLines: []string{"it began"}}, e)
			require.ErrorContains(t, e, "; last on stderr: it began")
		})
	}
}

// OTP rule 58: a child that ends as it was told is quiet. Any other end while it stops is reported.
func TestStops(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare string
		change  func(*process.Spec)
		reports bool
		want    process.ExitError
	}{
		{name: "dies of the signal"},
		{name: "status 0", prepare: "trap 0"},
		{name: "status 143, as shells have it", prepare: "trap 143"},
		{name: "another signal", prepare: "deaf", change: func(s *process.Spec) { s.TermSignal = syscall.SIGINT }},
		{name: "brutal", prepare: "deaf", change: func(s *process.Spec) { s.Grace = supervisor.Brutal }},
		{name: "status 5", prepare: "trap 5", reports: true, want: process.ExitError{Status: 5, Asked: true}},
		{name: "ignores it", prepare: "deaf", change: func(s *process.Spec) {
			s.Grace = 20 * time.Millisecond
		}, reports: true,
			want: process.ExitError{Status: -1, Signal: syscall.SIGKILL, Asked: true, Forced: true}},
	} {
		for _, guard := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, guard %v", c.name, guard), func(t *testing.T) {
				h := newHome(t)
				spec := puppetSpec(h.socket, "child")
				spec.Guard = guard
				if c.prepare != "" {
					spec.Args = []string{c.prepare}
				}
				if c.change != nil {
					c.change(&spec)
				}

				run, rec := suptest.Start(t, root(0, process.Child(spec)))
				puppet := h.wait(t, "child")
				err := run.Stop(t.Context())
				puppet.gone(t)
				reaped(t, puppet.pid)
				suptest.NoOrphans(t, run)
				exit := suptest.Wait[supervisor.ChildStopped](t, rec, 1, nil).Exit

				if !c.reports {
					require.NoError(t, err)
					require.Equal(t, supervisor.Shutdown, exit.Class, "%v", exit)
					require.Zero(t, suptest.Count[supervisor.ShutdownError](rec, nil))
					return
				}

				c.want.Name, c.want.PID = "child", puppet.pid
				require.Equal(t, &c.want, exitOf(t, suptest.Wait[supervisor.ShutdownError](t, rec, 1, nil).Exit.Err))
			})
		}
	}
}

// The end of the process ends its group, whether it ends by itself or is stopped.
func TestGroupEndsWithTheProcess(t *testing.T) {
	for _, guard := range []bool{false, true} {
		t.Run(fmt.Sprintf("guard %v", guard), func(t *testing.T) {
			h := newHome(t)
			spec := puppetSpec(h.socket, "child")
			spec.Guard = guard
			run, rec := suptest.Start(t, root(1, process.Child(spec)))
			puppet := h.wait(t, "child")
			puppet.tell(t, "fork")
			descendant := h.wait(t, "descendant")
			descendant.tell(t, "deaf")
			puppet.order(t, "exit 1") // by itself
			descendant.gone(t)
			exited(t, rec, 1)

			puppet = h.wait(t, "child") // the next incarnation
			puppet.tell(t, "fork")
			descendant = h.wait(t, "descendant")
			descendant.tell(t, "deaf")
			require.NoError(t, run.Stop(t.Context())) // told to
			puppet.gone(t)
			descendant.gone(t)
		})
	}
}

// A process that leaves its group is stopped nevertheless, and so is the guard that it leaves
// behind.
func TestProcessLeavesItsGroup(t *testing.T) {
	h := newHome(t)
	spec := puppetSpec(h.socket, "child", "setsid")
	spec.Guard = true
	run, _ := suptest.Start(t, root(0, process.Child(spec)))
	puppet := h.wait(t, "child")
	require.NoError(t, run.Stop(t.Context()))
	puppet.gone(t)
	reaped(t, puppet.pid)
}

// A descendant that has left the group gets no signal, and neither the exit nor a stop waits for
// the output that it keeps open.
func TestDescendantKeepsOutputOpen(t *testing.T) {
	h := newHome(t)
	run, rec := suptest.Start(t, root(1, process.Child(puppetSpec(h.socket, "child"))))
	puppet := h.wait(t, "child")
	puppet.tell(t, "fork-away")
	away := h.wait(t, "descendant")
	puppet.order(t, "exit 3")
	require.Equal(t, 3, exitOf(t, exited(t, rec, 1).Exit.Err).Status)
	puppet = h.wait(t, "child")
	require.NoError(t, run.Stop(t.Context()))
	puppet.gone(t)
	away.tell(t, "deaf") // it lives
	away.order(t, "exit 0")
	away.gone(t)
}

// I7: whatever the Go side does, the process does not outlive it.
func TestFaultsLeaveNoProcess(t *testing.T) {
	h := newHome(t)
	run, rec := suptest.Start(t, root(10, process.Child(puppetSpec(h.socket, "child"))))
	var lost []*caller

	for _, way := range []suptest.Way{suptest.ByPanic, suptest.ByGoexit, suptest.ByKill} {
		lost = append(lost, h.wait(t, "child"))
		suptest.Plan{Steps: []suptest.Step{{Path: "child", Way: way}}}.Run(t, run, rec, func(suptest.Step) {
			reaped(t, lost[len(lost)-1].pid) // before the next incarnation began
		})
	}

	require.ErrorIs(t, exited(t, rec, 1).Exit.Err, suptest.ErrPlanned)
	require.True(t, exited(t, rec, 2).Exit.Goexit)
	require.True(t, exited(t, rec, 3).Exit.Killed)
}

// I7, for a Go side that does not end: it is an orphan, and its process is gone.
func TestHangsLeaveNoProcess(t *testing.T) {
	for _, where := range []string{"Serve", "Stdout"} {
		t.Run(where, func(t *testing.T) {
			h := newHome(t)
			release, hung := make(chan struct{}), make(chan struct{})
			spec := puppetSpec(h.socket, "child")

			if where == "Stdout" {
				spec.Ready = process.Probe{}
				spec.Stdout = func([]byte) { close(hung); <-release }
			}

			child := process.Child(spec)
			child.Orphan = supervisor.Abandon
			child.Shutdown = 200 * time.Millisecond // the goroutine does not end, however long it is waited for
			run, rec := suptest.Start(t, root(0, child))
			puppet := h.wait(t, "child")

			if where == "Serve" {
				require.NoError(t, run.Inject(t.Context(), "child", suptest.Hang(release)))
			} else {
				<-hung
			}

			require.ErrorIs(t, run.TerminateChild(t.Context(), "child"), supervisor.ErrOrphan)
			puppet.gone(t)
			close(release)
			suptest.Wait[supervisor.OrphanEnded](t, rec, 1, nil)
			reaped(t, puppet.pid)
		})
	}
}

// OTP rules 40 and 45: a process that keeps ending is restarted within the limit, with events, and
// then its supervisor gives up.
func TestRestartsWithinTheLimit(t *testing.T) {
	h := newHome(t)
	run, rec := suptest.Start(t, root(2, process.Child(puppetSpec(h.socket, "child"))))
	seen := map[int]bool{}

	for n := 1; n <= 3; n++ {
		puppet := h.wait(t, "child")
		require.False(t, seen[puppet.pid])
		seen[puppet.pid] = true
		suptest.Wait[supervisor.ChildStarted](t, rec, n, nil)
		puppet.order(t, fmt.Sprintf("exit %d", n))
		e := exited(t, rec, n)
		require.True(t, e.Reported)
		require.Equal(t, n, exitOf(t, e.Exit.Err).Status)
	}

	<-run.Done()
	require.ErrorIs(t, run.Err(), supervisor.ErrMaxIntensity)
	require.Equal(t, 3, exitOf(t, run.Err()).Status)
	require.Equal(t, 2, suptest.Count[supervisor.RestartScheduled](rec, nil))
}

func TestOutput(t *testing.T) {
	h := newHome(t)
	const flood = 1 << 20
	var mu sync.Mutex
	var out, err []string
	flooded := make(chan struct{})
	spec := puppetSpec(h.socket, "child", "say", "say one", "complain two", fmt.Sprint("flood ", flood))
	spec.MaxLine = 1000
	spec.Stdout = func(line []byte) {
		mu.Lock()
		defer mu.Unlock()
		out = append(out, string(line))
		if string(line) == "flooded" {
			close(flooded)
		}
	}
	spec.Stderr = func(line []byte) { mu.Lock(); defer mu.Unlock(); err = append(err, string(line)) }
	run, _ := suptest.Start(t, root(0, process.Child(spec)))
	h.wait(t, "child").tell(t, "complain three")
	<-flooded
	require.NoError(t, run.Stop(t.Context())) // nothing that was written is lost
	require.Equal(t, []string{"two", "three"}, err)
	require.Equal(t, []string{"", "one"}, out[:2])
	n := 0

	for _, piece := range out[2 : len(out)-2] {
		require.LessOrEqual(t, len(piece), spec.MaxLine)
		n += strings.Count(piece, "x")
	}

	require.Equal(t, flood, n)
	require.Equal(t, []string{"flooded", "ready"}, out[len(out)-2:])
}

func TestOutputPanics(t *testing.T) {
	h := newHome(t)
	spec := puppetSpec(h.socket, "child")
	spec.Stdout = func(line []byte) {
		if string(line) == "boo" {
			panic(suptest.ErrPlanned)
		}
	}
	child := process.Child(spec)
	child.Restart = supervisor.Temporary
	_, rec := suptest.Start(t, root(0, child))
	puppet := h.wait(t, "child")
	puppet.order(t, "say boo")
	exit := exited(t, rec, 1).Exit
	require.ErrorIs(t, exit.Err, suptest.ErrPlanned)
	require.Contains(t, exit.Stack.String(), "process_test.go")
	reaped(t, puppet.pid)
}

func TestEnvironmentIsScrubbed(t *testing.T) {
	t.Setenv("PROCESS_TEST_SECRET", "s3cret")
	t.Setenv("PROCESS_TEST_WANTED", "yes")
	h := newHome(t)
	var out []string
	spec := puppetSpec(h.socket, "child", "env")
	spec.Env = append(spec.Env, process.Inherit("PROCESS_TEST_WANTED", "PROCESS_TEST_UNSET")...)
	spec.Stdout = func(line []byte) { out = append(out, string(line)) }
	run, _ := suptest.Start(t, root(0, process.Child(spec)))
	h.wait(t, "child")
	require.NoError(t, run.Stop(t.Context()))
	require.Contains(t, out, "PROCESS_TEST_WANTED=yes")
	require.NotContains(t, strings.Join(out, "\n"), "SECRET")
	require.NotContains(t, strings.Join(out, "\n"), "UNSET")
	require.NotContains(t, strings.Join(out, "\n"), "\nPATH=")

	// an empty list means an empty environment, not the whole one
	spec = process.Spec{Path: "/bin/sh", Args: []string{"-c", `exec env`}, NullStdin: true}
	out = nil
	spec.Stdout = func(line []byte) { out = append(out, string(line)) }
	child := process.Child(spec)
	child.Restart = supervisor.Temporary
	_, rec := suptest.Start(t, root(0, child))
	exited(t, rec, 1)
	require.NotContains(t, strings.Join(out, "\n"), "PROCESS_TEST")
}

// The process is not the child of a short-lived thread: it does not end when threads of this
// program end.
func TestOutlivesThreads(t *testing.T) {
	h := newHome(t)
	run, rec := suptest.Start(t, root(0, process.Child(puppetSpec(h.socket, "child"))))
	puppet := h.wait(t, "child")

	stacks := make([]byte, 1<<20)
	for _, s := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if strings.Contains(s, ").host(") {
			require.Contains(t, s, "locked to thread")
		}
	}

	for range 10 {
		var threads sync.WaitGroup
		for range 20 {
			threads.Add(1)
			go func() {
				runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
				threads.Done()
				threads.Wait()
			}()
		}

		threads.Wait()
		puppet.tell(t, "complain I live")
	}

	require.NoError(t, run.Stop(t.Context()))
	require.Zero(t, suptest.Count[supervisor.ChildExited](rec, nil))
}

// Hundreds of short lives leave no descriptor and no zombie. TestMain checks for goroutines.
func TestManyLivesLeaveNothing(t *testing.T) {
	descriptors := func() int {
		dir, err := os.ReadDir("/dev/fd")
		require.NoError(t, err)
		return len(dir)
	}

	life := func(guard bool) {
		run, err := mustNew(t, root(0, process.Child(process.Spec{Path: "/bin/cat", Guard: guard}))).Start(
			context.Background())
		require.NoError(t, err)
		require.NoError(t, run.Stop(context.Background()))
	}
	life(true) // opens what the runtime keeps open after its first use
	before := descriptors()
	for n := range 200 {
		life(n%4 == 0)
	}

	require.LessOrEqual(t, descriptors(), before) // another test's connection may have been closing
	noChildren(t)
}

// BenchmarkStartStop measures one life of a small program: fork, ready, stop, reaped.
func BenchmarkStartStop(b *testing.B) {
	for _, guard := range []bool{false, true} {
		b.Run(fmt.Sprintf("guard=%v", guard), func(b *testing.B) {
			s := mustNew(b, root(0, process.Child(process.Spec{Path: "/bin/cat", Guard: guard})))
			for b.Loop() {
				run, err := s.Start(context.Background())
				require.NoError(b, err)
				require.NoError(b, run.Stop(context.Background()))
			}
		})
	}
}

func mustNew(t testing.TB, spec supervisor.Spec) *supervisor.Supervisor {
	t.Helper()
	s, err := supervisor.New(spec)
	require.NoError(t, err)
	return s
}
