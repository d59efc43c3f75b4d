package node

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/plan"
)

// cometWait bounds every wait of a campaign.
const cometWait = time.Minute

// cometRig is a lone validator under load: a node in a process of its own, which is the test
// binary, with a real CometBFT as its child. The test learns of each step of both and may kill
// either there.
type cometRig struct {
	t     *testing.T
	dir   string
	home  string
	all   bool // tell of all steps
	rand  *rand.Rand
	steps net.Listener
	cl    *client.Client
	load  *cometLoad
	node  *cometNode

	mu     sync.Mutex
	facts  facts
	moved  chan struct{} // closed when facts change
	trap   func(moment)
	answer string // to the next CometBFT that starts
}

// facts are what the processes have reported.
type facts struct {
	comets  []int // their process ids, in the order of their starts
	infos   int
	height  int64     // committed last
	since   int       // commits since the last CometBFT started
	next    time.Time // of the first of these
	commits int
	failed  []int64 // crash points at which CometBFT has exited
}

func (f facts) comet() int { return f.comets[len(f.comets)-1] }

// cometNode is one process of the node.
type cometNode struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once it has ended
	err  error
}

// newCometRig makes a home, starts its node and puts it under load. The processes report either all
// steps or only those that the figures need.
func newCometRig(t *testing.T, profile plan.Profile, seed uint64, all bool) *cometRig {
	t.Helper()
	t.Parallel()                                   // most of it is waiting
	dir, err := os.MkdirTemp("", "coppice-strike") // t.TempDir is too long for a socket's path
	require.NoError(t, err)
	r := &cometRig{
		t: t, dir: dir, home: filepath.Join(dir, "home"), all: all, rand: rand.New(rand.NewPCG(seed, seed)),
		moved: make(chan struct{}),
	}
	t.Cleanup(r.close)
	_, err = home.Init(r.home, home.InitOptions{
		ChainID: "test", Listen: "127.0.0.1:0", Profile: profile,
		Set:       []config.Assignment{{Key: "consensus.kind", Value: comet.Name, Flag: "--consensus"}},
		Consensus: comet.InitOptions{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0"},
	})
	require.NoError(t, err)

	if level := os.Getenv(cometLogLevel); level != "" {
		path := filepath.Join(comethome.Dir(r.home), "config", "config.toml")
		conf, err := os.ReadFile(path)
		require.NoError(t, err)
		conf = regexp.MustCompile(`(?m)^log_level = .*$`).ReplaceAll(conf, []byte(`log_level = "`+level+`"`))
		require.NoError(t, os.WriteFile(path, conf, 0o600))
	}

	token, err := os.ReadFile(filepath.Join(r.home, api.TokenFileName))
	require.NoError(t, err)
	r.cl = client.New("", client.WithToken(strings.TrimSpace(string(token))),
		client.WithBackoff(2*time.Millisecond, 20*time.Millisecond),
		client.WithResolver(func() (string, error) {
			n, err := api.ReadNodeFile(r.home)
			return n.Address, err
		}))
	r.steps, err = net.Listen("unix", filepath.Join(dir, "steps.sock"))
	require.NoError(t, err)
	go r.serve()
	r.start()
	r.load = startCometLoad(r.cl)
	r.progress(2)

	return r
}

// start runs the node's process. It does not wait until it is ready.
func (r *cometRig) start() {
	r.t.Helper()
	log, err := os.OpenFile(r.log(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(r.t, err)
	defer log.Close()

	n := &cometNode{done: make(chan struct{})}
	n.cmd = exec.Command(os.Args[0], cometNodeCommand, "--steps", r.steps.Addr().String(),
		fmt.Sprintf("--all=%t", r.all), "--home", r.home)
	n.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	n.cmd.Stdout, n.cmd.Stderr = log, log
	_, err = n.cmd.StdinPipe() // its end is ours
	require.NoError(r.t, err)
	require.NoError(r.t, n.cmd.Start())
	go func() {
		n.err = n.cmd.Wait()
		close(n.done)
	}()

	r.node = n
}

func (r *cometRig) log() string { return filepath.Join(r.dir, "node.log") }

func (r *cometRig) serve() {
	for {
		c, err := r.steps.Accept()
		if err != nil {
			return
		}

		go func() {
			defer c.Close()
			var m moment
			line, err := bufio.NewReader(c).ReadBytes('\n')
			if err != nil || json.Unmarshal(line, &m) != nil {
				return
			}
			fmt.Fprintln(c, r.meet(m)) // the process that asked may be dead
		}()
	}
}

// meet notes a moment, springs the trap, and answers the process.
func (r *cometRig) meet(m moment) (answer string) {
	r.mu.Lock()
	f := &r.facts

	switch m.Step {
	case childStarts:
		f.comets, f.since = append(slices.Clone(f.comets), m.PID), 0
		answer, r.answer = r.answer, ""

	case infoSent:
		f.infos++

	case failPoint:
		f.failed = append(slices.Clone(f.failed), m.Height)

	case committed:
		f.height = m.Height
		f.commits++
		if f.since++; f.since == 1 {
			f.next = time.Now()
		}
	}

	trap := r.trap
	close(r.moved)
	r.moved = make(chan struct{})
	r.mu.Unlock()

	if trap != nil {
		trap(m)
	}

	return answer
}

// at waits until a process comes to a step, and does something before the process goes on.
func (r *cometRig) at(s step, do func(moment)) {
	r.t.Helper()
	var once sync.Once
	sprung := make(chan struct{})
	r.setTrap(func(m moment) {
		if m.Step == s {
			once.Do(func() {
				defer close(sprung)
				do(m)
			})
		}
	})
	defer r.setTrap(nil)

	select {
	case <-sprung:
	case <-time.After(cometWait):
		r.t.Fatalf("nobody came to %q within %v", s, cometWait)
	}
}

func (r *cometRig) setTrap(trap func(moment)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trap = trap
}

// now returns the facts that are known.
func (r *cometRig) now() facts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.facts
}

// await waits until the known facts satisfy f, and returns them.
func (r *cometRig) await(what string, f func(facts) bool) facts {
	r.t.Helper()
	late := time.NewTimer(cometWait)
	defer late.Stop()

	for {
		r.mu.Lock()
		now, moved := r.facts, r.moved
		r.mu.Unlock()

		if f(now) {
			return now
		}

		select {
		case <-moved:
		case <-r.node.done:
			r.t.Fatalf("waiting for %s: the node's process ended: %v", what, r.node.err)
		case <-late.C:
			r.t.Fatalf("%s: not within %v, at %+v", what, cometWait, now)
		}
	}
}

// progress waits for n more commits.
func (r *cometRig) progress(n int) facts {
	r.t.Helper()
	want := r.now().commits + n
	return r.await(fmt.Sprintf("%d more commits", n), func(f facts) bool { return f.commits >= want })
}

// nextBlock waits for the first commit that came from a CometBFT that is not one of before, and
// returns its time.
func (r *cometRig) nextBlock(before facts) facts {
	r.t.Helper()
	return r.await("a block of a new CometBFT", func(f facts) bool {
		return len(f.comets) > len(before.comets) && f.since > 0
	})
}

// somewhen waits for a random time, so that a kill falls anywhere within the work of a block.
func (r *cometRig) somewhen(most time.Duration) {
	<-time.After(time.Duration(r.rand.Int64N(int64(most))))
}

// kill ends a process by SIGKILL.
func (r *cometRig) kill(pid int) {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		r.t.Errorf("SIGKILL of %d: %v", pid, err)
	}
}

// crash ends the node's process by SIGKILL and waits for its end.
func (r *cometRig) crash() {
	r.kill(r.node.cmd.Process.Pid)
	<-r.node.done
}

// bounded returns the context for one call to the node.
func (r *cometRig) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.t.Context(), cometWait)
}

// finish ends the load, counts, stops the node in order and verifies its home: executing the log
// again gives the app hashes that are in the log (I3, I4).
func (r *cometRig) finish() {
	r.t.Helper()
	acked, lost, twice := r.load.end(r.t)
	f := r.now()
	r.t.Logf("%d acknowledged, %d lost, %d twice; %d blocks, %d CometBFT processes; load average %s", acked, lost,
		twice, f.height, len(f.comets), loadAverage())
	require.Zero(r.t, lost)
	require.Zero(r.t, twice)
	require.NoError(r.t, r.node.cmd.Process.Signal(syscall.SIGTERM))
	<-r.node.done
	require.NoError(r.t, r.node.err, "the node's stop")
	v, err := offline.Verify(r.t.Context(), r.home, offline.VerifyOptions{})
	require.NoError(r.t, err)
	require.Zero(r.t, v.Unfinished)
	log, err := os.ReadFile(r.log())
	require.NoError(r.t, err)
	require.NotContains(r.t, string(log), "DATA RACE")
	require.NotContains(r.t, string(log), "two different blocks")
}

func (r *cometRig) close() {
	if r.load != nil {
		r.load.cut()
	}

	if r.node != nil {
		r.node.cmd.Process.Kill()
		<-r.node.done
	}

	if r.steps != nil {
		r.steps.Close()
	}
	if r.cl != nil {
		r.cl.CloseIdle()
	}

	if r.t.Failed() || os.Getenv(cometLogLevel) != "" {
		r.t.Logf("kept: %s", r.dir)
		r.t.Logf("the node's last words:\n%s", tailOf(r.log()))
		return
	}

	os.RemoveAll(r.dir)
}

func tailOf(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()

	if info, err := f.Stat(); err == nil {
		f.Seek(max(0, info.Size()-8<<10), io.SeekStart)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}

	return string(b)
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}

// campaign returns the number of kills and the seed, from the environment or else for the short
// form.
func campaign(t *testing.T, count string, short int) (n int, seed uint64, long bool) {
	t.Helper()
	long = os.Getenv(count) != ""
	n, seed = int(fromEnv(t, count, uint64(short))), fromEnv(t, "COPPICE_COMET_SEED", 1)
	t.Logf("seed %d, %s=%d", seed, count, n)

	return n, seed, long
}

// times are the durations that a campaign measures.
type times []time.Duration

func (f times) String() string {
	if len(f) == 0 {
		return "none"
	}
	s := slices.Sorted(slices.Values(f))
	at := func(q float64) time.Duration { return s[int(q*float64(len(s)-1))].Round(time.Millisecond) }
	return fmt.Sprintf("p50 %v, p90 %v, max %v of %d", at(0.5), at(0.9), at(1), len(s))
}
