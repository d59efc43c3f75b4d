package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/command"
	"github.com/coppice-go/coppice/engines/backend/backendtest"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/nodetest"
	"github.com/coppice-go/coppice/node/plan"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// TestMain runs the program itself, or the stock one, where a test says so.
func TestMain(m *testing.M) {
	switch os.Getenv("RUN") {
	case "bank":
		main()
	case "stock":
		os.Exit(command.Main(command.Program{}))
	}

	goleak.VerifyTestMain(m)
}

// program returns a command that runs the bank's program, or the stock one.
func program(t *testing.T, which string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	c := exec.CommandContext(t.Context(), self, args...)
	c.Env = append(os.Environ(), "RUN="+which)
	return c
}

// start starts the bank's program, and returns a client of it once it is ready.
func start(t *testing.T, dir string) (*exec.Cmd, *client.Client) {
	t.Helper()
	run := program(t, "bank", "start", "--home", dir, "--listen", "127.0.0.1:0", "--log-level", "error")
	require.NoError(t, run.Start())
	t.Cleanup(func() {
		_ = run.Process.Kill()
		_ = run.Wait()
	})
	out, err := program(t, "bank", "status", "--home", dir, "--wait", "30s").CombinedOutput()
	require.NoError(t, err, "%s", out)
	n, err := api.ReadNodeFile(dir)
	require.NoError(t, err)
	c := client.New(n.Address)
	t.Cleanup(c.CloseIdle)
	return run, c
}

// After a kill, somebody starts the stock program in the place of the bank's. It refuses the home,
// for start and verify, names the backend, and damages nothing.
func TestTheStockProgramRefusesTheHome(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	out, err := program(t, "bank", "init", "--home", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)

	run, c := start(t, dir)
	_, err = c.SubmitWait(t.Context(), Tx(Transfer{To: "alice", Amount: 100}))
	require.NoError(t, err)
	_, err = c.Submit(t.Context(), Tx(Transfer{From: "alice", To: "bob", Amount: 30}))
	require.NoError(t, err)
	require.NoError(t, run.Process.Kill())
	_ = run.Wait()

	for _, command := range []string{"start", "verify"} {
		out, err := program(t, "stock", command, "--home", dir).CombinedOutput()
		var status *exec.ExitError
		require.ErrorAs(t, err, &status)
		require.Equal(t, 3, status.ExitCode(), "%s", out)
		require.Contains(t, string(out), `no backend "bank"`)
		require.NotContains(t, string(out), "damage found")
	}

	out, err = program(t, "bank", "verify", "--home", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	_, c = start(t, dir)
	require.Eventually(t, func() bool {
		holds, err := Balance(t.Context(), c, "bob")
		return err == nil && holds == 30
	}, time.Minute, 10*time.Millisecond)
}

func TestTheProgramRuns(t *testing.T) { require.NoError(t, run()) }

// Engines are killed while money moves, and the power is cut. No money is made, none is lost, and
// every acknowledged transfer is made once.
func TestMoneyIsNeitherMadeNorLost(t *testing.T) {
	const accounts, each, total = 5, 20, 1000
	n := nodetest.Start(t, nodetest.With(node.WithBackend(Bank{})), nodetest.Profile(plan.Chaos))
	c := n.Client()
	mint, err := c.SubmitWait(t.Context(), Tx(Transfer{To: "0", Amount: total}))
	require.NoError(t, err)
	require.Equal(t, logv1.Code_CODE_OK, mint.Code)

	var wg sync.WaitGroup

	for from := range accounts {
		wg.Go(func() {
			for i := range each {
				_, err := c.SubmitWait(t.Context(),
					Tx(Transfer{From: fmt.Sprint(from), To: fmt.Sprint((from + 1 + i%4) % accounts),
						Amount: uint64(1 + i)}))
				if err != nil {
					t.Errorf("transfer %d of %d: %v", i, from, err)
				}
			}
		})
	}

	for _, path := range []string{"ordering", "storage", "mempool/pool", "mempool/workers"} {
		n.Cut("coppice/node/transactions/" + path)
	}

	n.Crash()
	wg.Wait()

	sum := uint64(0)

	for a := range accounts {
		holds, err := Balance(t.Context(), c, fmt.Sprint(a))
		require.NoError(t, err)
		sum += holds
	}

	require.EqualValues(t, total, sum)
}

func TestRefusals(t *testing.T) {
	for body, says := range map[string]string{
		"":                                     "transfer: 0 bytes, want an amount and two names",
		string(Transfer{"a", "", 1}.Encode()):  "names of 1 and 0 bytes",
		string(Transfer{"a", "a", 1}.Encode()): `from "a" to itself`,
		string(Transfer{"a", "b", 0}.Encode()): "of nothing",
	} {
		require.ErrorContains(t, Bank{}.Check([]byte(body)), says)
	}

	_, err := new(backendtest.State).Execute(Bank{}, Transfer{"a", "b", 1}.Encode())
	require.ErrorIs(t, err, ErrPoor)
}
