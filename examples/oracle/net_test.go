package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/command"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/node/api"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// These are the mains of the programs whose four nodes are measured (TestMain).
var measured = map[string]func(){
	"hurried":   func() { runNode(command.RoundsOf(Service(syntheticConfig(), time.Millisecond))) },
	"endless":   func() { runNode(command.RoundsOf(endless(syntheticConfig()))) },
	"impatient": func() { runNode(command.RoundsOf(impatient())) },
	"idle":      func() { runNode(command.RoundsOf(idle())) },
	"plain":     func() { os.Exit(command.Main(command.Program{})) },
	"byhand":    byHand,
}

func runNode(r *command.Rounds) { os.Exit(command.Main(command.Program{Rounds: r})) }

func syntheticConfig() Config {
	return Config{Source: Synthetic(time.Now), Sink: func(context.Context, Report) error { return nil }}
}

// endless returns the first two rounds of the oracle, again and again, without a keeper: a keeper
// that is silent would make the others wait, which is not what is measured.
func endless(c Config) *rounds.Service[Oracle] {
	t := App(c)
	t.Rounds = rounds.Rows[Oracle]{observe: t.Rounds[observe], estimate: {Round: t.Rounds[estimate].Round,
		On: rounds.On{rounds.Done: observe, rounds.None: observe, rounds.NoMajority: observe, rounds.Timeout: observe}}}
	return rounds.Compose("EndlessService", nil, t)
}

// impatient returns a service that waits for all agents for three seconds, again and again.
func impatient() *rounds.Service[Oracle] {
	return rounds.Compose("ImpatientService", nil, rounds.Table[Oracle]{Label: "ImpatientAbciApp", Start: "all",
		Timeouts: rounds.Timeouts{rounds.Timeout: 3 * time.Second}, Rounds: rounds.Rows[Oracle]{"all": {
			Round: rounds.DifferentUntilAll(func(context.Context, Oracle) (int64, error) { return 1, nil }, keepPrices),
			On:    rounds.On{rounds.Done: "all", rounds.Timeout: "all"}}}})
}

// idle returns a service whose agents never have anything to say.
func idle() *rounds.Service[Oracle] {
	return rounds.Compose("IdleService", nil, rounds.Table[Oracle]{Label: "IdleAbciApp", Start: "wait",
		Rounds: rounds.Rows[Oracle]{"wait": {
			Round: rounds.DifferentUntilAll(func(ctx context.Context, _ Oracle) (int64, error) {
				<-ctx.Done()
				return 0, ctx.Err()
			}, keepPrices), On: rounds.On{rounds.Done: "wait"}}}})
}

const netSize = 4

// net is a testnet of four nodes of a program, in processes of their own.
type net struct {
	t       testing.TB
	dir     string
	start   *exec.Cmd
	clients [netSize]*client.Client
}

// newNet makes and starts the nodes of a program of measured. prepare may change the homes before.
func newNet(t testing.TB, program string, prepare func(dir string)) *net {
	t.Helper()
	dir, err := os.MkdirTemp("", "oracle") // t.TempDir is too long for a socket's path
	require.NoError(t, err)
	n := &net{t: t, dir: dir}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })

	out, err := exec.Command("sh", "-c", program+" testnet init -n 4 --empty-every 0 --dir "+dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	if prepare != nil {
		prepare(dir)
	}

	log, err := os.Create(filepath.Join(dir, "nodes.log"))
	require.NoError(t, err)
	t.Cleanup(func() { log.Close() })
	n.start = exec.Command("sh", "-c", "exec "+program+" testnet start --dir "+dir)
	n.start.Stdout, n.start.Stderr = log, log
	require.NoError(t, n.start.Start())
	t.Cleanup(func() {
		_ = n.start.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = n.start.Wait()
		for _, c := range n.clients {
			c.CloseIdle()
		}
	})

	for i := range n.clients {
		home := n.home(i)
		n.clients[i] = client.New("", client.WithResolver(func() (string, error) {
			f, err := api.ReadNodeFile(home)
			return f.Address, err
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		_, err := n.clients[i].WaitReady(ctx)
		cancel()
		if text, _ := os.ReadFile(log.Name()); err != nil {
			t.Fatalf("node %d: %v\n%s", i, err, text)
		}
	}
	return n
}

func (n *net) home(i int) string { return filepath.Join(n.dir, fmt.Sprint("node", i)) }

// state returns the state of the service at a node.
func (n *net) state(i int) (st rounds.State[Oracle], height uint64) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	status, err := n.clients[i].Status(ctx)
	require.NoError(n.t, err)
	if status.Height == 0 {
		return st, 0
	}
	st, _, err = replicated.Read[Oracle](func(key []byte) ([]byte, bool, error) {
		return n.clients[i].GetAt(ctx, key, status.Height)
	})
	require.NoError(n.t, err)
	return st, status.Height
}

// rate lets the service run for d, and returns the rounds per second.
func (n *net) rate(d time.Duration) float64 {
	n.t.Helper()
	before, _ := n.state(0)
	began := time.Now()
	<-time.After(d)
	after, _ := n.state(0)
	return float64(after.Count-before.Count) / time.Since(began).Seconds()
}

var rpcAddress = regexp.MustCompile(`(?s)\[rpc\].*?\nladdr = "tcp://([^"]+)"`)

// rpc returns the address of CometBFT's RPC of a node.
func (n *net) rpc(i int) string {
	n.t.Helper()
	conf, err := os.ReadFile(filepath.Join(n.home(i), "comet", "config", "config.toml"))
	require.NoError(n.t, err)
	m := rpcAddress.FindSubmatch(conf)
	require.NotNil(n.t, m)
	return "http://" + string(m[1])
}

// cpu returns the CPU time that a node's processes have used: its own, and its CometBFT.
func (n *net) cpu(i int) time.Duration {
	n.t.Helper()
	f, err := api.ReadNodeFile(n.home(i))
	require.NoError(n.t, err)
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", f.PID))
	require.NoError(n.t, err)
	processes := []string{fmt.Sprint(f.PID)}
	for _, of := range threads {
		children, _ := os.ReadFile(of) // the thread may have ended
		processes = append(processes, strings.Fields(string(children))...)
	}

	var ticks int64
	for _, pid := range processes {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		require.NoError(n.t, err)
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		var user, system int64
		require.NoError(n.t, json.Unmarshal([]byte(fields[11]), &user))
		require.NoError(n.t, json.Unmarshal([]byte(fields[12]), &system))
		ticks += user + system
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// readRound reads the state of the rounds, if a change has written it.
func readRound(t testing.TB, c *logv1.Change) (rounds.State[struct{}], bool) {
	t.Helper()
	st, ok, err := replicated.ReadRound(c.Key, c.Value)
	require.NoError(t, err)
	return st, ok
}
