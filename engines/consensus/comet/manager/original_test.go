package manager

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/manager/bare"
)

// subject is a manager that the checks below are made of: ours, or a model of the published one. A
// check returns an error if the manager has the defect.
type subject interface {
	gentle() (bool, string)
	hard(period int) (bool, string)
	setParams() (bool, string)
	pid() int // of its CometBFT, 0 if none runs
	homeDir() string
	lines() []string
}

// managed is our manager as a subject.
type managed struct{ *rig }

func (m managed) gentle() (bool, string)         { return m.client().reset("/gentle_reset") }
func (m managed) hard(period int) (bool, string) { return m.client().reset(hardQuery(period)) }
func (m managed) pid() int                       { return m.m.Machine.Status(0).PID }
func (m managed) homeDir() string                { return m.home }
func (m managed) lines() []string                { all, _ := m.console.get(); return all }

func (m managed) setParams() (bool, string) {
	code, out, text := m.client().call(http.MethodPost, "/params", body(m.identity()))
	ok, _ := out["status"].(bool)
	return ok && code == http.StatusOK, text
}

func hardQuery(period int) string { return "/hard_reset?period_count=" + strconv.Itoa(period) }

// original is a model of the published manager's defects, written from the specification: it serves
// each request in a thread of its own, stops watching at the end of the process' output, sends only
// SIGTERM, and writes the genesis in place. Its times are shorter.
type original struct {
	t       *testing.T
	home    string
	mu      sync.Mutex // of the fields, as Python's lock guards them: not of a whole request
	process *exec.Cmd
	stdin   io.Closer // the process ends with it
	ended   chan struct{}
	watched bool
	stop    bool // a stop is under way, or has failed
	said    []string
}

func newOriginal(t *testing.T, s script) *original {
	t.Helper()
	r := prepare(t)
	r.script(s)
	o := &original{t: t, home: r.home}
	require.NoError(t, os.MkdirAll(filepath.Dir(rpcSocket(r.home)), 0o700))
	o.start()
	t.Cleanup(func() {
		o.mu.Lock()
		c, ended := o.process, o.ended
		o.mu.Unlock()
		if c != nil {
			_ = c.Process.Kill()
			<-ended
		}
	})
	return o
}

func (o *original) log(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.said = append(o.said, line)
}

func (o *original) start() {
	o.mu.Lock()
	if o.process != nil || o.stop { // it takes the old process for the new one
		o.mu.Unlock()
		return
	}
	c := exec.Command(os.Args[0], fakeCommand, "--home", o.home, "--rpc", rpcSocket(o.home))
	out := &watcher{o: o, up: make(chan struct{})}
	c.Stdout, c.Stderr = out, out
	stdin, err := c.StdinPipe()
	require.NoError(o.t, err)
	o.stdin = stdin
	require.NoError(o.t, c.Start())
	ended := make(chan struct{})
	o.process, o.ended, o.watched = c, ended, true
	o.mu.Unlock()

	go func() { _ = c.Wait(); close(ended) }() // and nothing more comes of it
	select {
	case <-out.up:
	case <-ended:
	}
}

// watcher reads the process's output.
type watcher struct {
	o    *original
	up   chan struct{}
	once sync.Once
}

func (w *watcher) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		w.once.Do(func() { close(w.up) })
		w.o.log(line)
		for _, trigger := range triggers {
			if strings.Contains(line, trigger) { // whether it was asked to end or not
				w.o.log("Restarted the HTTP RPC server, as a connection was dropped with message:")
			}
		}
	}
	return len(b), nil
}

// end sends SIGTERM, waits, and sends it again.
func (o *original) end() error {
	o.mu.Lock()
	c, ended := o.process, o.ended
	if c == nil || o.stop {
		o.mu.Unlock()
		return nil // another thread ends it, or has failed to: that is taken for an end
	}
	o.stop = true
	o.mu.Unlock()

	_ = c.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(500 * time.Millisecond):
		return errors.New("the process has not ended in time") // stop stays set
	}

	o.mu.Lock()
	defer o.mu.Unlock()
	o.process, o.stop = nil, false
	return nil
}

func (o *original) gentle() (bool, string) {
	if err := o.end(); err != nil {
		return false, err.Error()
	}
	o.start()
	return true, "Reset successful."
}

func (o *original) hard(period int) (bool, string) {
	if err := o.end(); err != nil {
		return false, err.Error()
	}
	return o.rewrite("autonolas-" + strconv.Itoa(period))
}

func (o *original) setParams() (bool, string) { return o.rewrite("chain-c4daS1") }

// rewrite writes the genesis in place, in two steps, as a large file is written.
func (o *original) rewrite(chainID string) (bool, string) {
	path := comethome.GenesisPath(o.home)
	data, err := os.ReadFile(path)
	var doc map[string]any
	if err == nil {
		err = json.Unmarshal(data, &doc)
	}
	if err != nil {
		return false, err.Error()
	}
	doc["chain_id"] = chainID
	if data, err = json.MarshalIndent(doc, "", "  "); err != nil {
		return false, err.Error()
	}

	f, err := os.Create(path)
	if err != nil {
		return false, err.Error()
	}
	defer f.Close()
	_, _ = f.Write(data[:len(data)/2])
	<-time.After(time.Millisecond) // the time of a disk
	_, err = f.Write(data[len(data)/2:])
	o.start()

	return err == nil, "Reset successful."
}

func (o *original) homeDir() string { return o.home }

func (o *original) pid() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-o.ended:
		return 0
	default:
		return o.process.Process.Pid
	}
}

func (o *original) lines() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.said...)
}

// awaitPID waits for a process that is not old.
func awaitPID(s subject, old int, within time.Duration) error {
	late, tick := time.After(within), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		if pid := s.pid(); pid != 0 && pid != old {
			return nil
		}
		select {
		case <-tick.C:
		case <-late:
			return fmt.Errorf("no new process has come within %v", within)
		}
	}
}

// ask asks the fake of a subject for something.
func ask(t *testing.T, s subject, query string) {
	t.Helper()
	c := newRPC(rpcSocket(s.homeDir()))
	defer c.close()
	resp, err := c.client.Get("http://comet/fake?" + query)
	require.NoError(t, err)
	resp.Body.Close()
}

// dies checks that a child that is killed, and one that ends with status 0, is started again
// (item 27).
func dies(t *testing.T, s subject) error {
	t.Helper()
	pid := s.pid()
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	if err := awaitPID(s, pid, 2*time.Second); err != nil {
		return fmt.Errorf("after SIGKILL: %w", err)
	}

	pid = s.pid()
	if r, ok := s.(managed); ok {
		r.awaitState(Running)
	}
	ask(t, s, "exit=1")
	if err := awaitPID(s, pid, 2*time.Second); err != nil {
		return fmt.Errorf("after exit status 0: %w", err)
	}
	return nil
}

// deaf checks that resets work although the child ignores SIGTERM (item 28).
func deaf(t *testing.T, s subject) error {
	t.Helper()
	for n := range 2 {
		pid, began := s.pid(), time.Now()
		ok, text := s.gentle()
		took := time.Since(began)
		lives := syscall.Kill(pid, 0) == nil

		switch {
		case ok && lives:
			return fmt.Errorf("reset %d says that it succeeded, and the old process lives", n)
		case !ok:
			return fmt.Errorf("reset %d: %s", n, text)
		case took > 5*time.Second:
			return fmt.Errorf("reset %d took %v", n, took)
		}
	}
	return nil
}

// planned checks that a stop that was asked for is not told as a lost connection (item 30).
func planned(t *testing.T, s subject) error {
	t.Helper()
	ok, text := s.gentle()
	require.True(t, ok, text)
	for _, line := range s.lines() {
		if strings.Contains(line, "a connection was dropped") {
			return errors.New("a planned stop was told as a lost connection")
		}
	}
	return nil
}

// concurrent checks 32 resets and POSTs at once (item 29): the genesis is whole at every instant,
// and each that succeeded has made its change after it was asked and before it was answered.
func concurrent(t *testing.T, s subject) error {
	t.Helper()
	path, stop := comethome.GenesisPath(s.homeDir()), make(chan struct{})
	var torn error
	var reader, callers sync.WaitGroup
	reader.Go(func() {
		tick := time.NewTicker(200 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			data, err := os.ReadFile(path)
			if err == nil && !json.Valid(data) {
				err = fmt.Errorf("the genesis is torn: %d bytes", len(data))
			}
			if err != nil && torn == nil {
				torn = err
			}
		}
	})

	var mu sync.Mutex
	var failed error
	for n := range 32 {
		callers.Go(func() {
			var ok bool
			var text string
			switch n % 4 {
			case 0:
				ok, text = s.setParams()
			case 1:
				ok, text = s.gentle()
			default:
				ok, text = s.hard(n)
			}
			mu.Lock()
			defer mu.Unlock()
			if !ok && failed == nil {
				failed = fmt.Errorf("request %d: %s", n, text)
			}
		})
	}
	callers.Wait()
	close(stop)
	reader.Wait()

	if torn != nil || failed != nil {
		return errors.Join(torn, failed)
	}

	// Exactly one process runs, on the genesis that is there.
	if err := awaitPID(s, 0, 2*time.Second); err != nil {
		return err
	}
	h, err := bare.Open(s.homeDir())
	if err != nil {
		return err
	}
	_, err = h.Genesis()
	return err
}

// Each [defect] of items 27 to 30 is one that the model has and the checks find.
func TestTheModelOfTheOriginalFailsTheChecks(t *testing.T) {
	t.Run("27", func(t *testing.T) {
		require.ErrorContains(t, dies(t, newOriginal(t, script{Height: 7})), "no new process")
	})
	t.Run("28", func(t *testing.T) {
		o := newOriginal(t, script{Deaf: true})
		require.ErrorContains(t, deaf(t, o), "has not ended in time")
		require.ErrorContains(t, deaf(t, o), "says that it succeeded, and the old process lives")
	})
	t.Run("29", func(t *testing.T) { require.ErrorContains(t, concurrent(t, newOriginal(t, script{})), "torn") })
	t.Run("30", func(t *testing.T) {
		o := newOriginal(t, script{Farewell: "RPC HTTP server stopped"})
		require.ErrorContains(t, planned(t, o), "told as a lost connection")
	})
}
