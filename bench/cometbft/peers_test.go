package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	rpchttp "github.com/cometbft/cometbft/rpc/client/http"
	"github.com/cometbft/cometbft/test/loadtime/payload"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"
)

// programs builds coppice, and CometBFT's own programs from its module.
func programs(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()

	for dir, packages := range map[string][]string{
		"../..": {"./cmd/coppice"},
		".":     {"github.com/cometbft/cometbft/cmd/cometbft", "github.com/cometbft/cometbft/test/loadtime/cmd/load"},
	} {
		cmd := exec.Command("go", append([]string{"build", "-o", bin + "/"}, packages...)...)
		cmd.Dir, cmd.Env = dir, os.Environ()
		if dir != "." {
			cmd.Env = append(cmd.Env, "GOWORK=") // coppice is built in its workspace, which does not include this module
		}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}

	return bin
}

// started starts a node of coppice, and returns it with a client of CometBFT's RPC.
func started(t *testing.T, bin string) (*target, *rpchttp.HTTP) {
	t.Helper()
	o := options{bin: bin}
	n, err := o.target("coppice-rpc", t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.stop()) })
	require.NoError(t, n.start(t.Context()))
	c, err := rpchttp.New(n.rpc, "/websocket")
	require.NoError(t, err)

	return n, c
}

// background runs a program until the test ends.
func background(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		log.Close()
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("%s:\n%s", program, said)
		}
	})
}

// The program "cometbft light" follows our chain from a trusted header, and serves the data that it
// has verified.
func TestTheProgramCometBFTLight(t *testing.T) {
	bin := programs(t)
	n, c := started(t, bin)
	tx := types.Tx("name=coppice")
	done, err := c.BroadcastTxCommit(t.Context(), tx)
	require.NoError(t, err)
	one := int64(1)
	trusted, err := c.Commit(t.Context(), &one)
	require.NoError(t, err)
	addr, err := freePort()
	require.NoError(t, err)
	background(t, filepath.Join(bin, "cometbft"), "light", trusted.ChainID, "--primary", n.rpc, "--witnesses", n.rpc,
		"--height", "1",
		"--hash", trusted.Header.Hash().String(), "--laddr", "tcp://"+addr, "--home-dir", t.TempDir())
	light, err := rpchttp.New("http://"+addr, "/websocket")
	require.NoError(t, err)
	require.NoError(t, poll(func() error { _, err := light.Status(context.Background()); return err }))
	block, err := light.Block(t.Context(), &done.Height)
	require.NoError(t, err)
	require.Equal(t, types.Txs{tx}, block.Block.Txs)
	again, err := light.BroadcastTxCommit(t.Context(), types.Tx("by=light"))
	require.NoError(t, err)
	require.Zero(t, again.TxResult.Code, again.TxResult.Log)
	_, err = light.Commit(t.Context(), &again.Height)
	require.NoError(t, err)
}

// Every transaction that the program of test/loadtime sends is on the chain.
func TestTheProgramOfCometBFTsLoadTool(t *testing.T) {
	bin := programs(t)
	n, c := started(t, bin)
	stats := filepath.Join(t.TempDir(), "stats.csv")
	out, err := exec.Command(filepath.Join(bin, "load"), "-c", "1", "-T", "5", "-r", "200", "-s", "250",
		"--broadcast-tx-method", "async",
		"--endpoints", "ws"+strings.TrimPrefix(n.rpc, "http")+"/websocket", "--stats-output", stats).CombinedOutput()
	require.NoError(t, err, "%s", out)
	f, err := os.Open(stats)
	require.NoError(t, err)
	defer f.Close()

	rows, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)

	sent := 0
	for _, row := range rows {
		if row[0] == "total_txs" {
			sent, err = strconv.Atoi(row[1])
			require.NoError(t, err)
		}
	}

	require.Positive(t, sent)
	require.NoError(t, poll(func() error {
		left, err := c.NumUnconfirmedTxs(context.Background())
		if err == nil && left.Total > 0 {
			err = fmt.Errorf("%d transactions still wait", left.Total)
		}
		return err
	}))
	status, err := c.Status(t.Context())
	require.NoError(t, err)

	committed := 0
	for h := int64(1); h <= status.SyncInfo.LatestBlockHeight; h++ {
		b, err := c.Block(t.Context(), &h)
		require.NoError(t, err)
		for _, tx := range b.Block.Txs {
			_, err := payload.FromBytes(tx)
			require.NoError(t, err)
			committed++
		}
	}

	require.Equal(t, sent, committed)
	t.Logf("%d transactions sent and committed", sent)
}

// A home that "cometbft init" made and the example application has run on is imported, once its
// genesis begins above the height up to which its validator has signed.
func TestAHomeOfTheProgramCometBFTIsImported(t *testing.T) {
	bin := programs(t)
	dir, home := filepath.Join(t.TempDir(), "theirs"), filepath.Join(t.TempDir(), "ours")
	rpc, err := freePort()
	require.NoError(t, err)
	out, err := exec.Command(filepath.Join(bin, "cometbft"), "init", "--home", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	file := filepath.Join(dir, "config", "config.toml")
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file,
		[]byte(strings.NewReplacer("127.0.0.1:26657", rpc, "0.0.0.0:26656", "127.0.0.1:0", `timeout_commit = "1s"`,
			`timeout_commit = "0s"`).Replace(string(data))), 0o600))

	imports := func() (string, error) {
		out, err := exec.Command(filepath.Join(bin, "coppice"), "init", "--home", home, "--listen", "127.0.0.1:0",
			"--consensus", "cometbft", "--import", dir).CombinedOutput()
		return string(out), err
	}
	c, err := rpchttp.New("http://"+rpc, "/websocket")
	require.NoError(t, err)
	theirs := exec.Command(filepath.Join(bin, "cometbft"), "start", "--home", dir, "--proxy_app", "persistent_kvstore")
	require.NoError(t, theirs.Start())
	require.NoError(t, poll(func() error {
		s, err := c.Status(context.Background())
		if err == nil && s.SyncInfo.LatestBlockHeight < 5 {
			err = fmt.Errorf("height %d", s.SyncInfo.LatestBlockHeight)
		}
		return err
	}))
	said, err := imports()
	require.Error(t, err)
	require.Contains(t, said, "is in use: stop its CometBFT first")
	require.NoError(t, theirs.Process.Signal(syscall.SIGTERM))
	theirs.Wait()
	said, err = imports()
	require.Error(t, err)
	require.Contains(t, said, "has signed up to height")

	var signed struct{ Height string }
	data, err = os.ReadFile(filepath.Join(dir, "data", "priv_validator_state.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &signed))
	height, err := strconv.ParseInt(signed.Height, 10, 64)
	require.NoError(t, err)
	file = filepath.Join(dir, "config", "genesis.json")
	doc, err := types.GenesisDocFromFile(file)
	require.NoError(t, err)
	doc.ChainID, doc.InitialHeight, doc.GenesisTime = "ours", height+1, time.Now()
	require.NoError(t, doc.SaveAs(file))
	said, err = imports()
	require.NoError(t, err, said)
	background(t, filepath.Join(bin, "coppice"), "start", "--home", home)
	require.NoError(t, poll(func() error {
		_, err := http.Get("http://" + rpc + "/status")
		return err
	}))
	done, err := c.BroadcastTxCommit(t.Context(), types.Tx("name=coppice"))
	require.NoError(t, err)
	require.Zero(t, done.TxResult.Code, done.TxResult.Log)
	require.Greater(t, done.Height, height)
}
