package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// PID 1 reaps the orphans of its processes, in their group and out of it, and no process that other
// code of the program waits for: with os/exec at once or later, or by number.
func TestReapsOrphans(t *testing.T) {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), modeKey+"=init")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	out, err := c.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("a PID namespace is forbidden here")
	}
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "init: all is well")
}

// initProcess is the test's program, as PID 1.
func initProcess() {
	defer func() {
		if p := recover(); p != nil {
			fmt.Println("init:", p)
			os.Exit(1)
		}
	}()

	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}

	if os.Getpid() != 1 {
		panic("it is not PID 1")
	}
	must(syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	must(syscall.Mount("proc", "/proc", "proc", 0, ""))

	// 16 lives, each of which leaves orphans: in the group, in a group of its own, in a session
	const lives = 16
	script := `sleep 0.01 & (sleep 0.02 &) ; (setsid sleep 0.03 &) ; (set -m; sleep 0.04 &) ; exit 1`
	spec := process.Spec{Name: "leaves orphans", Path: "/bin/sh", Args: []string{"-c", script},
		Env: process.Inherit("PATH"), Kill: process.KillProcess}
	sup, err := supervisor.New(root(lives, process.Child(spec)))
	must(err)
	run, err := sup.Start(context.Background())
	must(err)

	// those of others: waited for late, by number, and many at once
	late := exec.Command("/bin/sh", "-c", "exit 7")
	must(late.Start())
	for range 100 {
		err := exec.Command("/bin/sh", "-c", "exit 5").Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 5 {
			panic(fmt.Sprint("an exit was stolen: ", err))
		}

		pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", "exit 6"}, nil)
		must(err)
		var status syscall.WaitStatus
		if _, err = syscall.Wait4(pid, &status, 0, nil); err != nil || status.ExitStatus() != 6 {
			panic(fmt.Sprint("an exit by number was stolen: ", err))
		}
	}

	<-run.Done()
	limit, tick := time.After(suptest.DefaultTimeout), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()

	for left := zombies(); len(left) != 1 || left[0] != late.Process.Pid; left = zombies() {
		select {
		case <-tick.C:
		case <-limit:
			panic(fmt.Sprint("zombies: ", left, ", expected only ", late.Process.Pid))
		}
	}

	var exit *exec.ExitError
	if err := late.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		panic(fmt.Sprint("the exit that was waited for late was stolen: ", err))
	}

	fmt.Println("init: all is well")
	os.Exit(0)
}

// zombies returns the numbers of the zombies of the namespace.
func zombies() []int {
	var found []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, _ := os.ReadFile(path)
		if _, rest, _ := bytes.Cut(text, []byte(") ")); strings.HasPrefix(string(rest), "Z") {
			var pid int
			_, _ = fmt.Sscan(string(text), &pid)
			found = append(found, pid)
		}
	}
	return found
}
