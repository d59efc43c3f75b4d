package servers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTime bounds a start of a server. It ends a test that would hang; it is no expectation.
const startTime = 2 * time.Minute

// Server is one server. Its methods fail the test that made it.
type Server struct {
	// Addr is the server's address, HOST:PORT. It stays the same over restarts.
	Addr string
	// Dir has the server's data.
	Dir string

	t       testing.TB
	command func() *exec.Cmd
	ready   func(ctx context.Context, s *Server) error

	mu      sync.Mutex
	process *child
}

// child is one incarnation of a server.
type child struct {
	cmd   *exec.Cmd
	out   tail
	ended chan struct{}
}

// start runs the program of a new server and kills it when the test ends.
func start(t testing.TB, s *Server) *Server {
	t.Helper()
	s.t = t
	t.Cleanup(s.Kill)
	s.Start()

	return s
}

// Start starts the server, after Kill again on its data, and returns when it answers.
func (s *Server) Start() {
	s.t.Helper()
	if err := s.TryStart(); err != nil {
		s.t.Fatal(err)
	}
}

// TryStart is Start for goroutines other than the test's.
func (s *Server) TryStart() error {
	s.mu.Lock()
	defer s.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()

	for {
		c, err := launch(s.command())
		if err != nil {
			return err
		}

		err = s.await(ctx, c)
		if err == nil {
			s.process = c
			return nil
		}
		c.kill()

		// Processes of the incarnation before may hold the port or the shared memory for a moment.
		if ctx.Err() != nil {
			return fmt.Errorf("servers: %s does not start: %w\n%s", c.cmd.Path, err, c.out.String())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// await waits until c answers. It returns an error if c ends first.
func (s *Server) await(ctx context.Context, c *child) error {
	for {
		err := s.ready(ctx, s)
		if err == nil {
			return nil
		}

		select {
		case <-c.ended:
			return fmt.Errorf("it ended: %v", c.cmd.ProcessState)
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Kill ends the server with SIGKILL, its children too, and waits for its end. It does nothing if
// the server does not run.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
}

// Signal sends a signal to the server and its children, for instance SIGSTOP.
func (s *Server) Signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		signal(s.process.cmd.Process.Pid, sig)
	}
}

// Output returns the last lines that the server wrote.
func (s *Server) Output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return ""
	}
	return s.process.out.String()
}

// launch starts cmd. The kernel kills the process when its parent ends: so that this is the end of
// the test program and not of a thread, the process is the child of a thread that stays.
func launch(cmd *exec.Cmd) (*child, error) {
	c := &child{cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &c.out, &c.out
	cmd.WaitDelay = time.Second
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pdeathsig = true, syscall.SIGKILL

	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.ended)

		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // ProcessState says how it ended
		}
	}()

	return c, <-started
}

func (c *child) kill() {
	signal(c.cmd.Process.Pid, syscall.SIGKILL)
	<-c.ended
}

// signal reaches the process, its group and its children, which PostgreSQL puts into groups of
// their own.
func signal(pid int, sig syscall.Signal) {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	_ = syscall.Kill(-pid, sig)
	for _, field := range strings.Fields(string(children)) {
		var child int
		if _, err := fmt.Sscan(field, &child); err == nil && child > 1 {
			_ = syscall.Kill(child, sig)
		}
	}
}

// freePort returns a TCP port of the loopback interface that nothing listens on.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	return l.Addr().(*net.TCPAddr).Port
}

// readyLine is ready for a program that prints "ready …" when it answers.
func readyLine(_ context.Context, s *Server) error {
	conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

// maxTail bounds the output that is kept of a server.
const maxTail = 16 << 10

// tail keeps the last bytes written to it.
type tail struct {
	mu    sync.Mutex
	bytes []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes = append(t.bytes, p...)
	if over := len(t.bytes) - maxTail; over > 0 {
		t.bytes = append(t.bytes[:0], t.bytes[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.bytes)
}
