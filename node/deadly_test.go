package node_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/offline"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// A node in a process of its own, the re-executed test binary: in deadlyHome, in a mode.
const (
	deadlyHome = "COPPICE_TEST_DEADLY_HOME"
	deadlyMode = "COPPICE_TEST_DEADLY_MODE"

	skips    = "skips"    // the backend kills; consensus orders everything but its transactions
	kills    = "kills"    // the backend kills
	together = "together" // the backend kills once a bystander runs, too
	mended   = "mended"   // the backend is correct

	exitCode = 77 // of the backend's os.Exit
)

// deadly is a backend that ends the process. The body of a transaction says what it does.
type deadly struct {
	mode   string
	inside chan struct{} // closed by the bystander
	once   *sync.Once
}

func newDeadly(mode string) deadly { return deadly{mode, make(chan struct{}), new(sync.Once)} }

func (deadly) Name() string       { return "deadly" }
func (deadly) Check([]byte) error { return nil }

func (d deadly) Execute(v chain.View, body []byte) ([]byte, error) {
	switch armed := d.mode != mended; string(body) {
	case "exit":
		if armed {
			os.Exit(exitCode)
		}

	case "fatal at its place":
		if _, err := v.Version(); err != nil {
			return nil, err
		}
		if d.mode == together {
			<-d.inside
		}
		if armed {
			new(sync.Mutex).Unlock() // a fatal error of the runtime: nothing recovers it
		}

	case "bystander":
		if _, err := v.Version(); err != nil {
			return nil, err
		}
		if d.mode == together {
			d.once.Do(func() { close(d.inside) })
			select {}
		}
	}
	return nil, v.Put(append([]byte("deadly/"), body...), []byte("done"))
}

// skipping is solo consensus that leaves the deadly backend's transactions in the pool.
type skipping struct{ solo.Solo }

func (s skipping) Start(core consensus.Core) supervisor.StartFunc {
	core.Pool = harmless{core.Pool}
	return s.Solo.Start(core)
}

type harmless struct{ consensus.Pool }

func (h harmless) Take(ctx context.Context, maxTxs, maxBytes int) ([][]byte, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()

	for {
		all, err := h.Pool.Take(ctx, maxTxs, maxBytes)
		if err != nil {
			return nil, err
		}

		var txs [][]byte

		for _, raw := range all {
			if tx, err := chain.DecodeTx(raw); err == nil && tx.Backend != "deadly" {
				txs = append(txs, raw)
			}
		}

		if len(txs) > 0 {
			return txs, nil
		}

		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// runDeadly is the main function of the process: it prints where it listens, stops when its
// standard input ends, and exits as coppice does.
func runDeadly(home, mode string) int {
	c, err := config.Load(home)
	var n *node.Node

	if err == nil {
		opts := []node.Option{node.WithBackend(newDeadly(mode))}
		if mode == skips {
			opts = append(opts, node.WithDriver(skipping{}))
		}
		n, err = node.New(home, c, opts...)
	}

	if err == nil {
		ctx, stop := context.WithCancel(context.Background())
		go func() {
			io.Copy(io.Discard, os.Stdin)
			stop()
		}()

		go func() {
			if addr, err := n.Addr(ctx); err == nil {
				fmt.Println(addr)
			}
		}()

		err = n.Run(ctx)
	}

	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}

	return exit.Code(err)
}

// process is a running runDeadly.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr bytes.Buffer
	cl     *client.Client
}

// starts runs the home's node and, if it is expected to live, waits until it is ready.
func starts(t *testing.T, home, mode string, lives bool) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), deadlyHome+"="+home, deadlyMode+"="+mode)
	p.cmd.Stderr = &p.stderr
	stdin, err := p.cmd.StdinPipe()
	require.NoError(t, err)
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() { p.cmd.Process.Kill(); p.cmd.Wait() })
	if !lives {
		return p
	}

	addr, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err, "it does not listen: %s", &p.stderr)
	p.cl = client.New(strings.TrimSpace(addr))
	t.Cleanup(p.cl.CloseIdle)
	_, err = p.cl.WaitReady(t.Context())
	require.NoError(t, err)

	return p
}

// exits waits until the process has ended, and returns its exit code.
func (p *process) exits() int {
	p.t.Helper()
	p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// stops ends the process in order.
func (p *process) stops() {
	p.t.Helper()
	p.stdin.Close()
	require.Equal(p.t, exit.Done, p.exits(), "%s", &p.stderr)
}

// applies submits a kv transaction and waits for its result.
func (p *process) applies(key string) {
	p.t.Helper()
	body, err := kv.Encode(kv.Put([]byte(key), []byte("v")))
	require.NoError(p.t, err)
	res, err := p.cl.SubmitWait(p.t.Context(), chain.NewTx("kv", body, 5*time.Minute))
	require.NoError(p.t, err)
	require.Equal(p.t, logv1.Code_CODE_OK, res.Code)
}

// dies submits transactions of the deadly backend, and returns the exit code of the process and
// their ids. The process may end before it acknowledges them.
func (p *process) dies(bodies ...string) (code int, ids []chain.TxID) {
	p.t.Helper()
	var raws [][]byte

	for _, b := range bodies {
		raw, err := chain.NewTx("deadly", []byte(b), 5*time.Minute).Encode()
		require.NoError(p.t, err)
		raws, ids = append(raws, raw), append(ids, chain.HashTx(raw))
	}

	ctx, cancel := context.WithCancel(p.t.Context())
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		p.cl.SubmitMany(ctx, raws, false) // repeats while the process does not answer
	}()

	code = p.exits()
	cancel()
	<-answered

	return code, ids
}

func deathsOf(home string) string { return filepath.Join(home, "data", "inflight", "deaths.json") }

// death is an entry of the home's file of deaths.
func death(t *testing.T, home string, id chain.TxID) [2]int {
	t.Helper()
	var f struct {
		Transactions []struct {
			ID            string
			Eager, Placed int
		}
	}
	data, err := os.ReadFile(deathsOf(home))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &f))

	for _, r := range f.Transactions {
		if r.ID == id.String() {
			return [2]int{r.Eager, r.Placed}
		}
	}

	return [2]int{}
}

// refused checks that the home's node does not start, says why and what to do, and executes
// nothing.
func refused(t *testing.T, home, mode string, id chain.TxID) {
	t.Helper()
	p := starts(t, home, mode, false)
	require.Equal(t, exit.GaveUp, p.exits(), "%s", &p.stderr)
	for _, part := range []string{id.String(), `backend "deadly"`, "decided in block ", "2 times", "remove " +
		deathsOf(home)} {
		require.Contains(t, p.stderr.String(), part)
	}
}

// A transaction that was in flight at two deaths of the process is no longer executed ahead of its
// place. A decided transaction that ends the process twice stops the node, which names it. No
// acknowledged transaction is lost by that (I1).
func TestADeadlyTransaction(t *testing.T) {
	home, _ := newHome(t)
	p := starts(t, home, skips, true)
	p.applies("before")
	code, ids := p.dies("exit")
	poison := ids[0]
	require.Equal(t, exitCode, code)
	require.Equal(t, exitCode, starts(t, home, skips, false).exits(),
		"the second process executes it ahead of its place again")

	for range 2 { // the third does not, and the fourth neither: an orderly stop changes nothing
		p = starts(t, home, skips, true)
		p.applies("beside it")
		require.Equal(t, [2]int{2, 0}, death(t, home, poison))
		o, err := p.cl.Tx(t.Context(), poison, 0)
		require.NoError(t, err)
		require.NoError(t, o.Err, "it is still there")
		require.Nil(t, o.Result)
		p.stops()
	}

	for n := range 2 { // at its place it has to be executed
		require.Equal(t, exitCode, starts(t, home, kills, false).exits())
		require.Equal(t, [2]int{2, n}, death(t, home, poison), "the death is counted by the next")
	}

	refused(t, home, kills, poison)
	refused(t, home, mended, poison) // nobody but a person knows that it is mended
	require.Equal(t, [2]int{2, 2}, death(t, home, poison))

	require.NoError(t, os.Remove(deathsOf(home)))
	p = starts(t, home, mended, true)
	o, err := p.cl.Tx(t.Context(), poison, time.Minute)
	require.NoError(t, err)
	require.Equal(t, logv1.Code_CODE_OK, o.Result.GetCode())

	for _, key := range []string{"before", "beside it", "deadly/exit"} {
		_, found, err := p.cl.Get(t.Context(), []byte(key))
		require.NoError(t, err)
		require.True(t, found, key)
	}

	p.stops()
	v, err := offline.Verify(t.Context(), home, offline.VerifyOptions{Backends: []chain.Backend{newDeadly(mended)}})
	require.NoError(t, err)
	require.EqualValues(t, 4, v.Txs)
	require.Zero(t, v.Unfinished)
}

// A transaction that merely ran beside the deadly one is suspected once and not twice, because
// suspects run alone.
func TestABystanderIsNotBlamed(t *testing.T) {
	home, _ := newHome(t)
	const fatal = 2 // the runtime's exit code
	code, ids := starts(t, home, together, true).dies("fatal at its place", "bystander")
	poison, bystander := ids[0], ids[1]
	require.Equal(t, fatal, code)
	p := starts(t, home, kills, false)
	require.Equal(t, fatal, p.exits())
	require.Contains(t, p.stderr.String(), "unlock of unlocked mutex")
	require.Equal(t, [2]int{0, 1}, death(t, home, poison))
	require.Equal(t, [2]int{0, 1}, death(t, home, bystander))
	refused(t, home, kills, poison)
	require.Equal(t, [2]int{0, 2}, death(t, home, poison))
	require.Equal(t, [2]int{0, 1}, death(t, home, bystander))

	require.NoError(t, os.Remove(deathsOf(home)))
	p = starts(t, home, mended, true)

	for _, id := range ids {
		o, err := p.cl.Tx(t.Context(), id, time.Minute)
		require.NoError(t, err)
		require.Equal(t, logv1.Code_CODE_OK, o.Result.GetCode())
	}

	p.stops()
}

// A suspect whose transaction ends is no longer suspected.
func TestAClearedSuspectIsForgotten(t *testing.T) {
	home, _ := newHome(t)
	code, ids := starts(t, home, skips, true).dies("exit")
	require.Equal(t, exitCode, code)
	p := starts(t, home, mended, true)
	o, err := p.cl.Tx(t.Context(), ids[0], time.Minute)
	require.NoError(t, err)
	require.Equal(t, logv1.Code_CODE_OK, o.Result.GetCode())
	p.stops()
	require.NoFileExists(t, deathsOf(home))
}

// A file of deaths that cannot be read is reported as damage before anything runs, and the home is
// released.
func TestDamagedDeaths(t *testing.T) {
	home, c := newHome(t)
	require.NoError(t, os.MkdirAll(filepath.Dir(deathsOf(home)), 0o700))
	require.NoError(t, os.WriteFile(deathsOf(home), []byte("{"), 0o600))
	_, err := node.New(home, c)
	require.ErrorIs(t, err, exit.ErrDamage)
	require.ErrorContains(t, err, deathsOf(home))
	require.NoError(t, os.Remove(deathsOf(home)))
	n, err := node.New(home, c)
	require.NoError(t, err)
	require.NoError(t, n.Close())
}
