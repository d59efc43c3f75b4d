//go:build unix

package process_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
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

// shell returns the spec of a shell that executes a script.
func shell(script string, args ...string) process.Spec {
	return process.Spec{Name: "sh", Path: "/bin/sh", Args: append([]string{"-c", script, "sh"}, args...),
		Env: process.Inherit("PATH")}
}

// outcome is what a process wrote, and how it ended.
type outcome struct {
	out, err []string
	exit     supervisor.Exit
}

// finish runs the process as a temporary child until it ends by itself.
func finish(t *testing.T, spec process.Spec) outcome {
	t.Helper()
	var mu sync.Mutex
	var o outcome
	add := func(to *[]string) func([]byte) {
		return func(line []byte) { mu.Lock(); defer mu.Unlock(); *to = append(*to, string(line)) }
	}
	spec.Stdout, spec.Stderr = add(&o.out), add(&o.err)
	child := process.Child(spec)
	child.Restart = supervisor.Temporary
	_, rec := suptest.Start(t, root(0, child))
	o.exit = exited(t, rec, 1).Exit
	mu.Lock()
	defer mu.Unlock()
	return o
}

// What stands in the way of a start is named, and not the program in its stead.
func TestTheCauseOfAFailedStart(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), mode))
		return path
	}
	script := file("script", "#!/nowhere/interpreter -x\n", 0o700)
	plain := file("plain", "", 0o600)

	missing := "/nowhere/prog: no such file"
	for name, c := range map[string]struct {
		spec process.Spec
		is   error // nil: none in particular
		says string
	}{
		"Dir is missing":       {process.Spec{Dir: "/nowhere"}, fs.ErrNotExist, "Dir: stat /nowhere: no such"},
		"Dir is a file":        {process.Spec{Dir: plain}, nil, "Dir: chdir " + plain + ": not a directory"},
		"a relative Dir":       {process.Spec{Dir: "nowhere"}, fs.ErrNotExist, "Dir: stat nowhere: no such"},
		"Dir, with a guard":    {process.Spec{Dir: "/nowhere", Guard: true}, fs.ErrNotExist, "Dir: stat /nowhere"},
		"Dir, with a shell":    {process.Spec{Dir: "/nowhere", Umask: "077"}, fs.ErrNotExist, "Dir: stat /nowhere"},
		"the program":          {process.Spec{Path: "/nowhere/prog"}, fs.ErrNotExist, missing},
		"the program, not Dir": {process.Spec{Path: "/nowhere/prog", Dir: dir}, fs.ErrNotExist, missing},
		"in PATH":              {process.Spec{Path: "no-such-program"}, nil, "executable file not found"},
		"in PATH, for a shell": {process.Spec{Path: "no-such-program", Umask: "077"}, nil, "executable file not found"},
		"the interpreter": {process.Spec{Path: script}, fs.ErrNotExist,
			script + " is there, but its interpreter /nowhere/interpreter is not"},
		"no program":       {process.Spec{Path: plain}, fs.ErrPermission, plain},
		"no such user":     {process.Spec{User: "no-such-user"}, nil, `User "no-such-user"`},
		"no such group":    {process.Spec{Group: "no-such-group"}, nil, `Group "no-such-group"`},
		"a user who can't": {process.Spec{Path: plain, User: "65534"}, fs.ErrPermission, "as user 65534"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.spec.Path == "" {
				c.spec.Path = "/bin/cat"
			}
			err := startFails(t, process.Child(c.spec))
			require.ErrorContains(t, err, "process "+process.Child(c.spec).ID+": ")
			require.ErrorContains(t, err, c.says)
			if c.is != nil {
				require.ErrorIs(t, err, c.is)
			}
		})
	}

	noChildren(t)
}

func TestOptionsAreChecked(t *testing.T) {
	input := func(context.Context, io.Writer) error { return nil }
	for want, spec := range map[string]process.Spec{
		"Kill is KillMode(3); expected":    {Path: "x", Kill: 3},
		"Guard is set with KillProcess":    {Path: "x", Kill: process.KillProcess, Guard: true},
		"Guard is set with PTY":            {Path: "x", PTY: &process.PTY{}, Guard: true},
		"Stdin is set with NullStdin":      {Path: "x", NullStdin: true, Stdin: input},
		`Umask is "8"; expected an octal`:  {Path: "x", Umask: "8"},
		`Umask is "1777"`:                  {Path: "x", Umask: "1777"},
		"Argv0 is set with Sockets or":     {Path: "x", Umask: "022", Argv0: "y"},
		`nil File (Name "web"); expected`:  {Path: "x", Sockets: []process.Socket{{Name: "web"}}},
		`has the Name "a:b"; expected a`:   {Path: "x", Sockets: []process.Socket{{Name: "a:b", File: os.Stdin}}},
		"ExtraFiles has a nil file; expec": {Path: "x", ExtraFiles: []*os.File{nil}},
	} {
		err := startFails(t, supervisor.Child{ID: "x", Start: process.Start(spec)})
		require.ErrorIs(t, err, supervisor.ErrSpec)
		require.ErrorContains(t, err, want)
	}

	require.Equal(t, []string{"group", "mixed", "process"}, []string{process.KillGroup.String(),
		process.KillMixed.String(), process.KillProcess.String()})
}

func TestStdin(t *testing.T) {
	t.Run("is read to its end, by each incarnation", func(t *testing.T) {
		spec := shell("cat; echo over; exit 1")
		spec.Stdin = func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, "one\ntwo\n")
			return err
		}
		for range 2 {
			require.Equal(t, []string{"one", "two", "over"}, finish(t, spec).out)
		}
	})

	t.Run("more than the process reads", func(t *testing.T) {
		spec := shell("read line; echo $line")
		spec.Stdin = func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, strings.Repeat("x\n", 1<<20))
			return err
		}
		o := finish(t, spec)
		require.Equal(t, []string{"x"}, o.out)
		require.Equal(t, supervisor.Normal, o.exit.Class, "%v", o.exit.Err)
	})

	t.Run("ends with the process, and when it is stopped", func(t *testing.T) {
		waits := make(chan struct{}, 2)
		spec := shell("exec cat")
		spec.Stdin = func(ctx context.Context, _ io.Writer) error {
			waits <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		run, _ := suptest.Start(t, root(1, process.Child(spec)))
		<-waits
		info, err := run.WhichChild("sh")
		require.NoError(t, err)
		require.NoError(t, syscall.Kill(info.Ref.Info().(process.Info).PID, syscall.SIGKILL))
		<-waits
		require.NoError(t, run.Stop(t.Context()))
	})

	t.Run("that fails is a failure of the child", func(t *testing.T) {
		own, started := errors.New("own"), make(chan struct{})
		spec := shell("exec cat")
		spec.Stdin = func(context.Context, io.Writer) error { <-started; return own }
		child := process.Child(spec)
		child.Restart = supervisor.Temporary
		_, rec := suptest.Start(t, root(0, child))
		close(started)
		exit := exited(t, rec, 1).Exit
		require.ErrorIs(t, exit.Err, own)
		require.ErrorContains(t, exit.Err, "process sh: Stdin: own")
		noChildren(t)
	})
}

func TestUmask(t *testing.T) {
	dir := t.TempDir()
	for _, mask := range []string{"077", "0", "027"} {
		spec := shell(`touch "$1"`, filepath.Join(dir, mask))
		spec.Umask = mask
		require.Equal(t, supervisor.Normal, finish(t, spec).exit.Class)
		info, err := os.Stat(filepath.Join(dir, mask))
		require.NoError(t, err)
		want := map[string]fs.FileMode{"077": 0o600, "0": 0o666, "027": 0o640}
		require.Equal(t, want[mask], info.Mode().Perm())
	}
}

func TestUserAndGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may become another user")
	}

	nobody, err := user.Lookup("nobody")
	require.NoError(t, err)
	script := "id -u; id -g; id -G"
	spec := shell(script)

	spec.User = "nobody"
	groups, err := nobody.GroupIds()
	require.NoError(t, err)
	require.Equal(t, []string{nobody.Uid, nobody.Gid, strings.Join(groups, " ")}, finish(t, spec).out)

	spec.User, spec.Group = "12345", "54321" // without an entry
	require.Equal(t, []string{"12345", "54321", "54321"}, finish(t, spec).out)

	spec.User, spec.Group = "", "daemon"
	daemon, err := user.LookupGroup("daemon")
	require.NoError(t, err)
	require.Equal(t, []string{"0", daemon.Gid, daemon.Gid}, finish(t, spec).out)

	// the system still ends it with its parent, and it is stopped as any other
	spec = shell("echo ready; exec cat")
	spec.User, spec.Ready = "nobody", process.Line(func(line []byte) bool { return string(line) == "ready" })
	run, _ := suptest.Start(t, root(0, process.Child(spec)))
	require.NoError(t, run.Stop(t.Context()))
	noChildren(t)
}

func TestExtraFiles(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer file.Close()
	spec := shell("echo here >&3")
	spec.ExtraFiles = []*os.File{file}

	for range 2 { // it stays open here
		require.Equal(t, supervisor.Normal, finish(t, spec).exit.Class)
	}
	content, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	require.Equal(t, "here\nhere\n", string(content))
}

// The protocol of sd_listen_fds(3): the descriptors begin at 3, and LISTEN_PID is the process.
func TestSocketActivation(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	socket, err := ln.(*net.TCPListener).File()
	require.NoError(t, err)
	defer socket.Close()
	extra, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer extra.Close()

	h := newHome(t)
	said := make(chan string, 100)
	spec := puppetSpec(h.socket, "child", "env", "accept 3")
	spec.Sockets = []process.Socket{{Name: "web", File: socket}, {File: socket}}
	spec.ExtraFiles = []*os.File{extra}
	spec.Stdout = func(line []byte) { said <- string(line) }
	_, rec := suptest.Start(t, root(1, process.Child(spec)))

	for n := 1; n <= 2; n++ { // the second incarnation takes the same socket over
		puppet := h.wait(t, "child")
		suptest.Wait[supervisor.ChildStarted](t, rec, n, nil)
		conn, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		answer, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("pid %d", puppet.pid), string(answer))
		conn.Close()

		var lines []string
		for line := range said {
			if lines = append(lines, line); line == "ready" {
				break
			}
		}
		require.Contains(t, lines, "LISTEN_FDS=2")
		require.Contains(t, lines, "LISTEN_FDNAMES=web:unknown")
		require.Contains(t, lines, fmt.Sprintf("LISTEN_PID=%d", puppet.pid))
		if n == 1 {
			puppet.order(t, "exit 1")
		}
	}
}

// A program that cannot be executed by the shell says so in its exit.
func TestAProgramBehindAShell(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	require.NoError(t, os.WriteFile(plain, []byte("#!/nowhere/interpreter\n"), 0o700))
	o := finish(t, process.Spec{Path: plain, Umask: "077"})
	require.Equal(t, 127, exitOf(t, o.exit.Err).Status)
	require.ErrorContains(t, o.exit.Err, "plain")

	// this program again, which a shell must not take for itself
	h := newHome(t)
	spec := puppetSpec(h.socket, "child")
	path, _, err := process.Self()
	require.NoError(t, err)
	spec.Path, spec.Umask = path, "077"
	suptest.Start(t, root(0, process.Child(spec)))
	h.wait(t, "child")
}

// A process with a terminal has it as its input, output and controlling terminal.
func TestPTY(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("PTY needs Linux")
	}

	t.Run("it is one", func(t *testing.T) {
		spec := shell("tty; stty size; echo to stderr >&2; read line; echo got $line; cat; exit 3")
		spec.PTY = &process.PTY{Rows: 7, Cols: 33}
		spec.Stdin = func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, "hello\n")
			return err
		}
		o := finish(t, spec)
		require.Contains(t, strings.Join(o.out, "\n"), "/dev/pts/")
		require.Subset(t, o.out, []string{"7 33", "to stderr", "got hello"})
		require.Empty(t, o.err)
		e := exitOf(t, o.exit.Err)
		require.Equal(t, 3, e.Status, "the end of the input reached cat")
		require.Contains(t, e.LastLines, "to stderr")
	})

	t.Run("the whole session is stopped", func(t *testing.T) {
		h := newHome(t)
		spec := puppetSpec(h.socket, "child", "terminal")
		spec.PTY = &process.PTY{}
		var out []string
		spec.Stdout = func(line []byte) { out = append(out, string(line)) }
		run, _ := suptest.Start(t, root(0, process.Child(spec)))
		puppet := h.wait(t, "child")
		info, err := run.WhichChild("child")
		require.NoError(t, err)
		require.Equal(t, process.Info{PID: puppet.pid, Group: puppet.pid}, info.Ref.Info())
		puppet.tell(t, "fork")
		descendant := h.wait(t, "descendant")
		descendant.tell(t, "deaf")
		require.NoError(t, run.Stop(t.Context()))
		puppet.gone(t)
		descendant.gone(t)
		require.Equal(t, []string{"true", "true", "true", "ready"}, out[:4])
	})
}

// The first signal, the last one, and the rest of the group, in each mode.
func TestKillModes(t *testing.T) {
	for _, c := range []struct {
		mode           process.KillMode
		workerIsAsked  bool // by TermSignal
		workerIsSpared bool
	}{
		{process.KillGroup, true, false},
		{process.KillMixed, false, false},
		{process.KillProcess, false, true},
	} {
		t.Run(c.mode.String(), func(t *testing.T) {
			h := newHome(t)
			spec := puppetSpec(h.socket, "child")
			spec.Kill, spec.Grace = c.mode, time.Minute
			run, rec := suptest.Start(t, root(2, process.Child(spec)))

			start := func() (master, worker *caller) {
				master = h.wait(t, "child")
				master.tell(t, "fork")
				return master, h.wait(t, "descendant")
			}

			// told to: the master ends when it likes
			master, worker := start()
			worker.tell(t, "hold")
			master.tell(t, "hold")
			stopped := make(chan error, 1)
			go func() { stopped <- run.TerminateChild(context.Background(), "child") }()
			master.tell(t, "await terminated")
			if c.workerIsAsked {
				worker.tell(t, "await terminated")
			} else {
				require.NoError(t, syscall.Kill(worker.pid, syscall.SIGWINCH))
				worker.tell(t, "await window changed")
			}
			master.order(t, "exit 0")
			require.NoError(t, <-stopped)
			master.gone(t)
			spared(t, worker, c.workerIsSpared)

			// by itself
			_, err := run.RestartChild(t.Context(), "child")
			require.NoError(t, err)
			master, worker = start()
			worker.tell(t, "deaf")
			master.order(t, "exit 3")
			exited(t, rec, 1)
			spared(t, worker, c.workerIsSpared)

			// killed
			_, worker = start()
			require.NoError(t, run.Kill("child", suptest.ErrPlanned))
			spared(t, worker, c.workerIsSpared)
		})
	}
}

// spared ends a worker that was spared, or waits for the end of one that was not.
func spared(t *testing.T, worker *caller, is bool) {
	t.Helper()
	if is {
		worker.tell(t, "deaf") // it lives
		worker.order(t, "exit 0")
	}
	worker.gone(t)
}
