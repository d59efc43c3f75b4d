package sinkfire

import (
	"context"
	"errors"
	"fmt"
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

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/load"
	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/plan"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// most bounds each wait. It ends a campaign that would hang, and is no expectation.
const most = 90 * time.Second

// long is most for a sink that is far behind.
const long = 10 * time.Minute

func TestMain(m *testing.M) {
	consensus.Register(solo.Kind{}, comet.Kind{})
	code := m.Run()
	for _, b := range builds.made {
		os.RemoveAll(filepath.Dir(b))
	}
	os.Exit(code)
}

// campaign skips the test unless campaigns are to run.
func campaign(t testing.TB) {
	t.Helper()
	if os.Getenv("COPPICE_SOAK") == "" {
		t.Skip("a campaign of whole processes: COPPICE_SOAK=1 runs it")
	}
}

// number returns the number in a variable of the environment, or another one.
func number(t testing.TB, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err, name)
	return n
}

// builds are the programs that were built in this run, by their arguments.
var builds = struct {
	sync.Mutex
	made map[string]string
}{made: map[string]string{}}

// build returns the path of a program of this module. more are arguments of go build.
func build(t testing.TB, pkg string, more ...string) string {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	key := strings.Join(append([]string{pkg}, more...), " ")
	if path := builds.made[key]; path != "" {
		return path
	}

	dir, err := os.MkdirTemp("", "sinkfire-bin") // only its user may change it, as a plugin's must be
	require.NoError(t, err)
	path := filepath.Join(dir, filepath.Base(pkg))
	args := append(append([]string{"build", "-o", path}, more...), "github.com/coppice-go/coppice/"+pkg)
	out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
	require.NoError(t, err, "go %v: %s", args, out)
	builds.made[key] = path

	return path
}

// coppice returns the path of the binary.
func coppice(t testing.TB) string { return build(t, "cmd/coppice") }

// machine is one node as a process, whose data outlive its kills.
type machine struct {
	t    testing.TB
	bin  string
	home string
	args []string // of start
	log  *os.File
	proc *rig.Process
	cl   *client.Client
}

// newMachine returns the machine of a home. args are more arguments of each start.
func newMachine(t testing.TB, bin, home string, args ...string) *machine {
	t.Helper()
	log, err := os.Create(home + ".log")
	require.NoError(t, err)
	m := &machine{t: t, bin: bin, home: home, args: args, log: log}
	m.cl, err = rig.Dial(home, 2*time.Millisecond, 50*time.Millisecond)
	require.NoError(t, err)
	t.Cleanup(func() {
		m.kill()
		m.cl.CloseIdle()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("last lines of %s:\n%s", home, text[max(0, len(text)-4000):])
		}
		log.Close()
	})

	return m
}

// alone returns the machine of a new home with the driver solo.
func alone(t testing.TB, args ...string) *machine {
	t.Helper()
	dir := filepath.Join(shortDir(t), "home")
	_, err := home.Init(dir, home.InitOptions{ChainID: "sinks", Listen: "127.0.0.1:0", Profile: plan.Chaos})
	require.NoError(t, err)
	return newMachine(t, coppice(t), dir, args...)
}

// shortDir is t.TempDir with a path that is short enough for sockets. It stays if the test fails.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sf")
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the homes are in %s", dir)
		} else {
			os.RemoveAll(dir)
		}
	})

	return dir
}

// define writes the definition of a stream.
func (m *machine) define(name string, lines ...string) {
	m.t.Helper()
	m.write(name+".toml", strings.Join(lines, "\n")+"\n")
}

// amend adds lines to the definition of a stream, before its tables.
func (m *machine) amend(name string, lines ...string) {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join(home.StreamsDir(m.home), name+".toml"))
	require.NoError(m.t, err)
	m.define(name, append(lines, string(text))...)
}

// write writes a file beside the definitions.
func (m *machine) write(name, text string) {
	m.t.Helper()
	dir := home.StreamsDir(m.home)
	require.NoError(m.t, os.MkdirAll(dir, 0o700))
	require.NoError(m.t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}

// begin starts the process. It does not wait.
func (m *machine) begin() {
	m.t.Helper()
	args := append([]string{"start", "--home", m.home, "--log-level", "warn"}, m.args...)
	p, err := rig.StartProcess(m.bin, m.log, args...)
	require.NoError(m.t, err)
	m.proc = p
}

// start starts the process and waits until it is ready.
func (m *machine) start() {
	m.t.Helper()
	m.begin()
	m.ready()
}

func (m *machine) ready() {
	m.t.Helper()
	ctx, cancel := context.WithTimeoutCause(m.t.Context(), most, errors.New("not ready in time"))
	defer cancel()
	ctx, ended := context.WithCancelCause(ctx)
	defer ended(nil)
	go func() {
		select {
		case <-m.proc.Done():
			ended(fmt.Errorf("the process ended: %s", m.proc.Exit()))
		case <-ctx.Done():
		}
	}()
	_, err := m.cl.WaitReady(ctx)
	require.NoError(m.t, err, "%v", context.Cause(ctx))
}

// kill ends the process by SIGKILL. It does nothing if there is none.
func (m *machine) kill() {
	if m.proc != nil {
		m.proc.Crash()
		m.proc = nil
	}
}

// ask returns a context for one call.
func (m *machine) ask() (context.Context, context.CancelFunc) {
	return context.WithTimeout(m.t.Context(), most)
}

// stream returns where a stream stands, or nil if the node does not answer.
func (m *machine) stream(name string) *apiv1.Stream {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*time.Second)
	defer cancel()
	list, err := m.cl.Streams(ctx, name)
	if err != nil || len(list) != 1 {
		return nil
	}
	return list[0]
}

// becomes waits until a stream is in one of the states, and returns it.
func (m *machine) becomes(name string, states ...string) *apiv1.Stream {
	m.t.Helper()
	var s *apiv1.Stream
	m.until(fmt.Sprintf("stream %s is one of %v", name, states), func() bool {
		s = m.stream(name)
		for _, want := range states {
			if s != nil && s.State == want {
				return true
			}
		}
		return false
	}, func() any { return s })

	return s
}

// until waits until f holds.
func (m *machine) until(what string, f func() bool, now func() any) {
	m.t.Helper()
	for late := time.Now().Add(most); !f(); {
		if time.Now().After(late) {
			is := now() // before the process ends
			m.stacks()
			m.t.Fatalf("%s: not within %v: %v", what, most, is)
		}
		require.NoError(m.t, rig.Pause(m.t.Context(), 10*time.Millisecond))
	}
}

// stacks has the process write the stacks of its goroutines to its log, and end.
func (m *machine) stacks() {
	if m.proc != nil && m.proc.Signal(syscall.SIGQUIT) == nil {
		<-m.proc.Done()
	}
}

// height returns the height of the node.
func (m *machine) height() uint64 {
	m.t.Helper()
	ctx, cancel := m.ask()
	defer cancel()
	s, err := m.cl.Status(ctx)
	require.NoError(m.t, err)
	return s.Height
}

// level waits until a stream has what the node has now, and returns the height.
func (m *machine) level(name string) uint64 {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), long)
	defer cancel()
	s, err := m.cl.Status(ctx)
	require.NoError(m.t, err)
	err = m.cl.WaitStream(ctx, name, &apiv1.StreamPosition{Period: s.Period, Height: s.Height}, long)
	require.NoError(m.t, err, "%v", m.stream(name))
	return s.Height
}

// verify is "streams verify" of what lies above a height (0: of everything).
func (m *machine) verify(name string, from uint64) *apiv1.VerifyStreamResponse {
	m.t.Helper()
	req := &apiv1.VerifyStreamRequest{Name: name}
	if from > 0 {
		req.From = &apiv1.StreamPosition{Height: from}
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), long)
	defer cancel()
	r, err := m.cl.VerifyStream(ctx, req)
	require.NoError(m.t, err)
	require.Zero(m.t, r.Faults, "%v", r.Findings)
	return r
}

// burden is a load on some machines.
type burden struct {
	t      testing.TB
	ledger *rig.Ledger
	stop   chan struct{}
	cancel context.CancelFunc
	all    sync.WaitGroup
}

// load puts machines under load: so many transactions per second in all, for as long as the test.
func startLoad(t testing.TB, rate float64, machines ...*machine) *burden {
	t.Helper()
	b := &burden{t: t, ledger: rig.NewLedger(), stop: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	b.cancel = cancel
	prefix := load.NewPrefix()
	for i, m := range machines {
		runs, err := rig.Loads(load.Config{Client: m.cl, Clients: 2, Batch: 5, Rate: rate / float64(len(machines)),
			Acked: b.ledger.Write, Stop: b.stop, Failed: func(load.Item, error) bool { return true }},
			fmt.Sprintf("%s%d.", prefix, i))
		require.NoError(t, err)
		for _, r := range runs {
			b.all.Go(func() { _, _ = r.Run(ctx) })
		}
	}
	t.Cleanup(func() {
		cancel()
		b.all.Wait()
	})

	return b
}

// end lets the submissions under way end.
func (b *burden) end() {
	close(b.stop)
	late := time.AfterFunc(most, b.cancel)
	b.all.Wait()
	late.Stop()
}

// grow waits for so many more acknowledgments.
func (b *burden) grow(n int) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), most)
	defer cancel()
	require.NoError(b.t, b.ledger.Grow(ctx, n))
}

// kept counts what was acknowledged, and fails the test if the node lost any of it.
func (b *burden) kept(m *machine) int {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), most)
	defer cancel()
	count, err := rig.Audit(ctx, m.cl, b.ledger.All())
	require.NoError(b.t, err)
	require.False(b.t, count.Bad(), "%+v", count)
	return count.Acknowledged
}
