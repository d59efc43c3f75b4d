//go:build unix

package process_test

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// startParent runs a program that supervises a puppet.
func startParent(t *testing.T, h *home, mode string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), modeKey+"="+mode, socketKey+"="+h.socket)
	c.Stderr = os.Stderr
	require.NoError(t, c.Start())
	return c
}

// When the parent is killed, so is the process: by the kernel on Linux, by the guard everywhere.
func TestDiesWithItsParent(t *testing.T) {
	for _, mode := range []string{"parent", "parent+guard", "parent+self"} {
		t.Run(mode, func(t *testing.T) {
			if mode != "parent+guard" && runtime.GOOS != "linux" {
				t.Skip("only Linux kills the children of a process that ends; see the guard")
			}

			h := newHome(t)
			p := startParent(t, h, mode)
			puppet := h.wait(t, "child")
			puppet.tell(t, "deaf")
			require.NoError(t, p.Process.Kill())
			require.Error(t, p.Wait())
			puppet.gone(t)
		})
	}
}

// The guard also ends grandchildren that ignore signals, at whatever moment the parent is killed.
func TestGrandchildrenDieWithTheParent(t *testing.T) {
	h := newHome(t)
	for range 5 {
		p := startParent(t, h, "parent+guard")
		puppet := h.wait(t, "child")
		puppet.tell(t, "fork")
		descendant := h.wait(t, "descendant")
		descendant.tell(t, "deaf")
		puppet.tell(t, "deaf")
		group, err := syscall.Getpgid(puppet.pid)
		require.NoError(t, err)
		// a stop is under way when the parent is killed: the guard ignores its signal too
		require.NoError(t, syscall.Kill(-group, syscall.SIGTERM))
		require.NoError(t, p.Process.Kill())
		require.Error(t, p.Wait())
		puppet.gone(t)
		descendant.gone(t)
	}
}

// A re-executed child watches the pipe by itself. Nothing else ends it here.
func TestWatchParent(t *testing.T) {
	h := newHome(t)
	c := exec.Command(os.Args[0], "deaf")
	c.Env = []string{modeKey + "=watcher", socketKey + "=" + h.socket, nameKey + "=child", quick}
	in, err := c.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	puppet := h.wait(t, "child")
	_, err = in.Write([]byte("this is no end"))
	require.NoError(t, err)
	puppet.tell(t, "say I live")
	require.NoError(t, in.Close())
	puppet.gone(t)
	require.NoError(t, c.Wait(), "status 0")
}

// The standard input of a supervised child is open as long as the parent runs.
func TestWatchParent_Supervised(t *testing.T) {
	h := newHome(t)
	spec := puppetSpec(h.socket, "child")
	spec.Env[0] = modeKey + "=watcher"
	run, _ := suptest.Start(t, root(0, process.Child(spec)))
	puppet := h.wait(t, "child")
	puppet.tell(t, "say I live")
	require.NoError(t, run.Stop(t.Context()))
	puppet.gone(t)

	spec.NullStdin, spec.Ready = true, process.Probe{}
	spec.ExitZero = process.ExitZeroAbnormal
	child := process.Child(spec)
	child.Restart = supervisor.Temporary
	_, rec := suptest.Start(t, root(0, child))
	require.Equal(t, 0, exitOf(t, exited(t, rec, 1).Exit.Err).Status, "the null device is at its end")
}
