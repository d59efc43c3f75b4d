package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	"github.com/coppice-go/coppice/engines/consensus/comet/comettest"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/supervisor/process"
)

// clockFile in a CometBFT home has the time by which the clock of its validator is wrong, for a
// child that is the test binary.
const clockFile = "test-clock"

// programMain is the program's main function, except that a CometBFT whose home has a clockFile
// votes with that clock.
func programMain() {
	var o child.Options
	f := flag.NewFlagSet(child.Command, flag.ContinueOnError)
	o.Flags(f)

	if len(os.Args) < 2 || os.Args[1] != child.Command || f.Parse(os.Args[2:]) != nil {
		os.Exit(Main(Program{}))
		return
	}
	text, err := os.ReadFile(filepath.Join(o.Home, clockFile))
	if err != nil {
		os.Exit(Main(Program{}))
		return
	}
	wrong, err := time.ParseDuration(string(text))
	if err != nil {
		panic(err)
	}

	process.WatchParent()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	o.Signer = comettest.WrongClock(wrong)
	if err = child.Run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "coppice:", err)
	}
	os.Exit(child.Status(err))
}

// stateRow is what a node shows of itself in a state.
type stateRow struct {
	state  consensus.Readiness
	warns  bool     // the node is ready, and warns of the state
	reason []string // texts that the reason has
}

func (r stateRow) shown() consensus.Readiness {
	if r.warns {
		return consensus.Ready
	}
	return r.state
}

// stateNode is a node under test, with the events that it has sent.
type stateNode struct {
	t    *testing.T
	home string
	cmd  *exec.Cmd
	out  lockedBuffer
	cl   *client.Client
	top  topScreen

	mu     sync.Mutex
	events []string
}

// watchNode follows the events of the node of a home.
func watchNode(t *testing.T, dir string) *stateNode {
	t.Helper()
	n := &stateNode{t: t, home: dir}
	n.cl = client.New("", client.WithBackoff(2*time.Millisecond, 50*time.Millisecond),
		client.WithResolver(func() (string, error) {
			f, err := api.ReadNodeFile(dir)
			return f.Address, err
		}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.cl.Events(ctx, client.EventsOptions{After: client.FromNow, Filter: "type=readiness"},
			func(e client.Event) error {
				if e.Ready != nil {
					n.mu.Lock()
					n.events = append(n.events, e.Ready.State)
					n.mu.Unlock()
				}
				return nil
			})
	}()
	t.Cleanup(func() { cancel(); <-done; n.cl.CloseIdle() })

	return n
}

// lockedBuffer takes the output of a process that still runs when it is read.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// runNode starts the node of a home.
func runNode(t *testing.T, dir string) *stateNode {
	t.Helper()
	n := watchNode(t, dir)
	n.cmd = exec.Command("coppice", "start", "--home", dir, "--log-level", "warn")
	n.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=10")
	n.cmd.Stdout, n.cmd.Stderr = &n.out, &n.out
	require.NoError(t, n.cmd.Start())
	t.Cleanup(n.stop)

	return n
}

func (n *stateNode) stop() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = n.cmd.Wait()
	if n.t.Failed() {
		n.t.Logf("%s:\n%s", n.home, n.out.String())
	}
	n.cmd = nil
}

// comet sends a signal to the node's CometBFT.
func (n *stateNode) comet(s syscall.Signal) {
	n.t.Helper()
	data, err := os.ReadFile(filepath.Join(comethome.Dir(n.home), "pid"))
	require.NoError(n.t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	require.NoError(n.t, err)
	require.NoError(n.t, syscall.Kill(pid, s))
}

// shows waits until everything that the node shows is that of the row.
func (n *stateNode) shows(r stateRow) {
	n.t.Helper()
	began := time.Now()
	late := began.Add(40 * time.Second)

	for {
		err := n.look(r)
		if err == nil {
			n.t.Logf("%s was shown everywhere after %.1f s", r.state, time.Since(began).Seconds())
			return
		}
		if time.Now().After(late) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.t.Fatalf("%s is not in the state %s: %v; events: %v", n.home, r.state, err, n.events)
		}

		<-time.After(100 * time.Millisecond)
	}
}

// look returns how the node differs from the row.
func (n *stateNode) look(r stateRow) error {
	exit, readyz := 0, http.StatusOK
	if r.shown() != consensus.Ready {
		exit, readyz = 1, http.StatusServiceUnavailable
	}

	var s struct {
		Ready    bool
		State    string
		Reason   string
		Warnings []struct{ State, Reason string }
	}
	out, code, err := n.status("--json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if code != exit || s.State != string(r.shown()) || s.Ready != (exit == 0) {
		return fmt.Errorf("status --json: exit %d, %+v", code, s)
	}

	reason := s.Reason
	if r.warns {
		reason = ""
		for _, w := range s.Warnings {
			if w.State == string(r.state) {
				reason = w.Reason
			}
		}
	}
	for _, text := range r.reason {
		if !strings.Contains(reason, text) {
			return fmt.Errorf("the reason is %q, want %q in it", reason, text)
		}
	}

	out, code, err = n.status()
	line := regexp.MustCompile(`(?m)^state      ` + string(r.shown()) + `(:|$)`)
	if err != nil || code != exit || !line.Match(out) ||
		r.warns && !bytes.Contains(out, []byte("warning    "+string(r.state)+": ")) {
		return fmt.Errorf("status: exit %d, %v\n%s", code, err, out)
	}

	for path, want := range map[string]int{"/readyz": readyz, "/healthz": http.StatusOK} {
		got, body, err := n.get(path)
		if err != nil || got != want || !strings.Contains(body, string(r.state)) {
			return fmt.Errorf("%s: %d %q, %v; want %d with the state", path, got, body, err, want)
		}
		if r.warns {
			break // only /readyz has warnings
		}
	}

	_, metrics, err := n.get("/metrics")
	for _, want := range []string{
		fmt.Sprintf("coppice_ready %d", 1-exit), fmt.Sprintf("coppice_readiness_state{state=%q} 1", r.shown()),
		fmt.Sprintf("coppice_readiness_warning{state=%q} %d", r.state, map[bool]int{true: 1}[r.warns]),
	} {
		if err != nil || !strings.Contains(metrics, "\n"+want+"\n") {
			return fmt.Errorf("metrics: %v, no %q", err, want)
		}
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Contains(n.events, string(r.shown())) {
		return fmt.Errorf("no event %s", r.shown())
	}

	return n.tells(r)
}

// tells returns an error unless the state is a trouble, in the API, on the first page of the
// dashboard and in a "coppice top" that runs. A node that is ready, or waits for its genesis, has
// none.
func (n *stateNode) tells(r stateRow) error {
	if r.state == consensus.Ready || r.state == consensus.WaitingForGenesis {
		return nil
	}

	list, err := n.cl.Troubles(n.t.Context())
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(x *apiv1.Trouble) bool { return x.Kind == string(r.state) })
	if i < 0 || list[i].Grave == r.warns || list[i].Advice == "" {
		return fmt.Errorf("troubles: %v, want %s", list, r.state)
	}

	_, page, err := n.get("/dashboard/")
	if err != nil || !strings.Contains(page, html.EscapeString(list[i].Advice)) {
		return fmt.Errorf("dashboard: %v, no %q", err, list[i].Advice)
	}

	want := []string{fmt.Sprintf("%.60s", list[i].Advice)} // the rest may be on another line
	if !r.warns {
		want = append(want, "not ready, "+strings.ReplaceAll(string(r.state), "_", " "))
	}
	return n.top.shows(n.t, n.home, want...)
}

func (n *stateNode) status(args ...string) (out []byte, code int, err error) {
	out, err = exec.Command("coppice", append([]string{"status", "--home", n.home}, args...)...).Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return out, exit.ExitCode(), nil
	}
	return out, 0, err
}

func (n *stateNode) get(path string) (code int, body string, err error) {
	f, err := api.ReadNodeFile(n.home)
	if err != nil {
		return 0, "", err
	}
	res, err := http.Get("http://" + f.Address + path)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return res.StatusCode, string(data), err
}

// blocks makes the chain commit n transactions of the given size, one after another.
func (n *stateNode) blocks(count, size int) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()

	for i := range count {
		body, err := kv.Encode(kv.Put(fmt.Appendf(nil, "%d", i), bytes.Repeat([]byte{'x'}, size)))
		require.NoError(n.t, err)
		_, err = n.cl.SubmitWait(ctx, chain.NewTx(kv.Name, body, time.Minute))
		require.NoError(n.t, err)
	}
}

// lone makes the home of a lone validator whose chain begins at a time.
func lone(t *testing.T, dir string, begins time.Time) string {
	t.Helper()
	consensus.Register(solo.Kind{}, comet.Kind{})
	g := chain.NewGenesis("lone", begins)
	_, err := home.Init(dir, home.InitOptions{
		Genesis: &g, Listen: "127.0.0.1:0",
		Set:       []config.Assignment{{Key: "consensus.kind", Value: comet.Name, Flag: "--consensus"}},
		Consensus: comet.InitOptions{P2P: freePort(t), RPC: freePort(t)},
	})
	require.NoError(t, err)
	return dir
}

// freePort returns an address at which nothing listens now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// joiner makes the home of a node that joins the testnet, and is no validator. change may change
// the genesis that it gets.
func joiner(t *testing.T, net *testnet.Net, dir string, change func(*chain.Genesis), snapshot bool) string {
	t.Helper()
	g, err := home.ReadGenesis(net.Home(0))
	require.NoError(t, err)
	theirs, err := comethome.ReadGenesis(comethome.Dir(net.Home(0)))
	require.NoError(t, err)
	change(&g)
	_, err = home.Init(dir, home.InitOptions{
		Genesis: &g, Listen: "127.0.0.1:0",
		Set: []config.Assignment{{Key: "consensus.kind", Value: comet.Name, Flag: "--consensus"}},
	})
	require.NoError(t, err)
	require.NoError(t, comethome.Carry(comethome.Dir(dir), g, comethome.Genesis{Validators: theirs.Validators}))

	var peers []string
	var sync comethome.StateSync

	for i := range net.Nodes {
		id, err := comethome.ReadIdentity(comethome.Dir(net.Home(i)))
		require.NoError(t, err)
		p2p, rpc, err := comethome.Addresses(comethome.Dir(net.Home(i)))
		require.NoError(t, err)
		peers, sync.RPC = append(peers, id.NodeID+"@"+p2p), append(sync.RPC, rpc)
	}

	require.NoError(t, comethome.SetNetwork(comethome.Dir(dir),
		comethome.Network{P2P: freePort(t), RPC: freePort(t), Peers: peers}))

	if snapshot {
		sync.Height, sync.Hash, err = comethome.OldestBlock(t.Context(), sync.RPC[0])
		require.NoError(t, err)
		require.NoError(t, comethome.SetStateSync(comethome.Dir(dir), sync))
	}

	return dir
}

// Each state of a node with CometBFT is shown by status, its exit code, /readyz, the events and the
// metrics, with the reason. /healthz is 200 in all of them. These are the rows of the table in
// docs/operating.md.
func TestStatesOfANode(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs a testnet")
	}

	dir, err := os.MkdirTemp("", "states") // short, because a socket's path has at most 107 bytes
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })

	t.Run("a testnet", func(t *testing.T) {
		if os.Getenv("COPPICE_SOAK") == "" {
			t.Skip("seven nodes take a minute and a half of two cores: COPPICE_SOAK=1, as make soak does")
		}
		t.Parallel()
		statesOfATestnet(t, dir)
	})
	t.Run("lone validators", func(t *testing.T) { t.Parallel(); statesOfLoneValidators(t, dir) })
}

func statesOfATestnet(t *testing.T, dir string) {
	consensus.Register(solo.Kind{}, comet.Kind{})
	at := filepath.Join(dir, "net")
	coppice := func(args ...string) {
		t.Helper()
		out, err := exec.Command("coppice", append([]string{"testnet", "--dir", at}, args...)...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}

	coppice("init", "-n", "4")
	tn, err := testnet.Open(at)
	require.NoError(t, err)

	for i := range tn.Nodes {
		require.NoError(t, os.WriteFile(filepath.Join(tn.Home(i), config.FileName),
			[]byte("listen = \"127.0.0.1:0\"\n[consensus]\nkind = \"cometbft\"\nretain_blocks = 120\n"), 0o644))
	}
	slow := filepath.Join(comethome.Dir(tn.Home(3)), "config", "config.toml") // so that it can be seen catching up
	conf, err := os.ReadFile(slow)
	require.NoError(t, err)
	conf = regexp.MustCompile(`(?m)^recv_rate = .*$`).ReplaceAll(conf, []byte("recv_rate = 600000"))
	require.NoError(t, os.WriteFile(slow, conf, 0o600))

	running := exec.Command("coppice", "testnet", "--dir", at, "start")
	var out bytes.Buffer
	running.Stdout, running.Stderr = &out, &out
	require.NoError(t, running.Start())
	t.Cleanup(func() {
		_ = running.Process.Signal(syscall.SIGTERM)
		_ = running.Wait()
		if t.Failed() {
			t.Logf("testnet:\n%s", out.String())
		}
	})

	first, last := watchNode(t, tn.Home(0)), watchNode(t, tn.Home(3))
	first.shows(stateRow{state: consensus.Ready})
	last.shows(stateRow{state: consensus.Ready})

	// quorum lost
	coppice("partition", "0,1", "2,3")
	first.shows(stateRow{state: consensus.NoQuorum, reason: []string{"20 of 40", "missing: "}})

	// catching up
	coppice("partition", "0,1,2", "3")
	first.shows(stateRow{state: consensus.Ready})
	first.blocks(20, 150_000)
	coppice("partition", "--heal")
	last.shows(stateRow{state: consensus.CatchingUp, reason: []string{"blocks behind the peers"}})
	last.shows(stateRow{state: consensus.Ready})

	// CometBFT stopped
	first.comet(syscall.SIGSTOP)
	first.shows(stateRow{state: consensus.ConsensusDown, reason: []string{"does not answer"}})
	first.comet(syscall.SIGCONT)
	first.shows(stateRow{state: consensus.Ready})

	// waiting for a snapshot
	waits := runNode(t, joiner(t, tn, filepath.Join(dir, "waits"), func(*chain.Genesis) {}, true))
	waits.shows(stateRow{state: consensus.WaitingForSnapshot, reason: []string{"none of the 4 connected peers offers"}})
	waits.stop()

	// wrong genesis
	wrong := runNode(t, joiner(t, tn, filepath.Join(dir, "wrong"), func(g *chain.Genesis) {
		g.GenesisTime = g.GenesisTime.Add(-time.Hour)
	}, false))
	wrong.shows(stateRow{state: consensus.WrongGenesis, reason: []string{"does not fit the genesis"}})
	wrong.stop()

	// pruned peers
	first.blocks(100, 100) // and as many empty blocks that prove them
	late := runNode(t, joiner(t, tn, filepath.Join(dir, "late"), func(*chain.Genesis) {}, false))
	late.shows(stateRow{state: consensus.PrunedPeers, reason: []string{"no block as old as 1,"}})
	late.stop()
}

func statesOfLoneValidators(t *testing.T, dir string) {
	// port taken
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()

	taken := lone(t, filepath.Join(dir, "taken"), time.Now())
	require.NoError(t, comethome.SetNetwork(comethome.Dir(taken), comethome.Network{P2P: l.Addr().String()}))
	n := runNode(t, taken)
	n.shows(stateRow{state: consensus.ConsensusDown, reason: []string{"address already in use"}})
	l.Close()
	n.shows(stateRow{state: consensus.Ready})

	// CometBFT stopped
	n.comet(syscall.SIGSTOP)
	n.shows(stateRow{state: consensus.ConsensusDown, reason: []string{"does not answer"}})
	n.comet(syscall.SIGCONT)
	n.shows(stateRow{state: consensus.Ready})

	// signing state ahead
	n.stop()
	signs := filepath.Join(comethome.Dir(taken), "data", "priv_validator_state.json")
	require.NoError(t, os.WriteFile(signs, []byte(`{"height":"1000","round":0,"step":3}`), 0o600))
	refused, err := exec.Command("coppice", "start", "--home", taken, "--log-level", "error").CombinedOutput()
	require.Error(t, err, "a start with it is refused")
	require.Contains(t, string(refused), "height 1000")

	// quorum missing: the other validator has never been there
	two := filepath.Join(dir, "two")
	out, err := exec.Command("coppice", "testnet", "--dir", two, "init", "-n", "2").CombinedOutput()
	require.NoError(t, err, "%s", out)
	tn, err := testnet.Open(two)
	require.NoError(t, err)
	n = runNode(t, tn.Home(0))
	n.shows(stateRow{state: consensus.NoQuorum, reason: []string{"10 of 20"}})
	n.stop()

	// clock ahead of the validators'
	wrong := func(name, by string) string {
		at := lone(t, filepath.Join(dir, name), time.Now().Add(-3*time.Hour))
		require.NoError(t, os.WriteFile(filepath.Join(comethome.Dir(at), clockFile), []byte(by), 0o600))
		return at
	}
	n = runNode(t, wrong("ahead", "-2h"))
	n.shows(stateRow{state: consensus.ClockAhead, reason: []string{"2h0m0s ahead"}})
	n.stop()

	// clock behind: a block was made under a clock that is ahead by less than 2 h, which would be
	// "in 2h0m0s" for half a minute
	n = runNode(t, wrong("behind", "1h55m"))
	n.shows(stateRow{state: consensus.ClockBehind, reason: []string{"in 1h5", "docs/operating.md"}})
	n.stop()

	// the genesis time lies ahead: nothing ends CometBFT, and the chain begins in time
	n = runNode(t, lone(t, filepath.Join(dir, "planned"), time.Now().Add(20*time.Second)))
	n.shows(stateRow{state: consensus.WaitingForGenesis, reason: []string{"genesis time"}})
	n.shows(stateRow{state: consensus.Ready})
	require.NotContains(t, n.out.String(), "restarting CometBFT")
	n.stop()

	// disk full
	if !canMount() {
		t.Log("no disk is filled: this process may not mount")
		return
	}
	full := filepath.Join(dir, "full")
	mountTmpfs(t, full, "96m")
	n = runNode(t, lone(t, filepath.Join(full, "home"), time.Now()))
	n.shows(stateRow{state: consensus.Ready})
	fill(t, full, 1<<20)
	n.shows(stateRow{state: consensus.DiskFull, reason: []string{"free, want at least"}})
	require.NoError(t, os.Remove(filepath.Join(full, "fill")))
	n.shows(stateRow{state: consensus.Ready})
}
