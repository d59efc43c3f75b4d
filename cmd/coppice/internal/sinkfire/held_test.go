package sinkfire

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
	"github.com/coppice-go/coppice/engines/backend/kv"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/internal/servers"
	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// gateText is a gate that waits for the ledger.
func gateText(act string) string {
	return "[[gate]]\nname = \"books\"\nsinks = [\"ledger\"]\nn = \"all\"\n" +
		"timeout = \"1s\"\non_exceed = \"" + act + "\"\n"
}

// Items 3, 4, 41 and 63 with a real CometBFT and a real server: while the server is dead, no block
// passes, whatever happens to consensus and its parts; the node is held and not down, also when it
// starts so; and a gate that halts ends the process with 7.
func TestAHeldNodeWithCometBFT(t *testing.T) {
	campaign(t)
	patience := time.Duration(number(t, "COPPICE_SINK_PATIENCE", 45)) * time.Second // the watchdog's is shorter
	server := servers.Postgres(t)
	m := network(t, 1, testnet.InitOptions{})[0]
	m.write("pg.dsn", servers.PostgresURL(server, "postgres"))
	m.define("ledger", `kind = "postgres"`, `dsn_file = "pg.dsn"`)
	m.write("gates.toml", gateText("pause"))
	m.start()
	load := startLoad(t, 20, m)
	load.grow(20)

	// The server dies: no block passes, and CometBFT is left alone for longer than its watchdog has
	// patience.
	server.Kill()
	height := m.held(t, 0)
	comet := cometOf(t, m)
	require.NoError(t, rig.Pause(t.Context(), patience))
	require.Equal(t, height, m.held(t, height))
	require.Equal(t, comet, cometOf(t, m), "the watchdog ended a CometBFT that waits at the gate")

	kills := 0
	ctx, cancel := m.ask()
	tree, err := m.cl.Tree(ctx)
	cancel()
	require.NoError(t, err)
	rig.EachKill(tree.Root, func(_ *apiv1.Child, path string, ways ...apiv1.How) {
		if !strings.HasPrefix(path, "coppice/node/engines/consensus") {
			return
		}
		for _, how := range ways {
			m.strike(t, path, how)
			kills++
			require.Equal(t, height, m.held(t, height), "%s of %s", rig.HowWord(how), path)
		}
	})
	m.until("CometBFT dies by SIGKILL", func() bool {
		comet = cometOf(t, m)
		return comet > 0 && syscall.Kill(comet, syscall.SIGKILL) == nil // it may just be starting
	}, func() any { return comet })
	m.until("another CometBFT runs", func() bool { return cometOf(t, m) != comet }, func() any { return comet })
	require.Equal(t, height, m.held(t, height), "kill -9 of CometBFT")

	server.Start()
	m.ready()
	load.grow(20)

	// The server is dead at the start.
	server.Kill()
	m.kill()
	m.begin()
	at := m.held(t, 0)
	out, err := rig.Command(t.Context(), m.bin, m.home, "status")
	require.ErrorContains(t, err, "exit status 1")
	require.Contains(t, out+err.Error(), fmt.Sprintf("gate books holds block %d, waiting for ledger", at+1))
	server.Start()
	m.ready()
	load.grow(20)

	// A gate that halts.
	m.write("gates.toml", gateText("halt"))
	require.NoError(t, m.proc.Signal(syscall.SIGHUP))
	server.Kill()
	for _, args := range [][]string{nil, nil} { // it halts again at the next start
		require.Equal(t, "exit status 7", m.halts(t, args...))
	}
	text, err := os.ReadFile(m.log.Name())
	require.NoError(t, err)
	require.Regexp(t, `halted: gate books halts the node before block \d+, because of ledger`, string(text))

	m.args = []string{"--without-sink", "ledger"}
	m.start()
	load.grow(20)
	m.kill()
	m.args = nil
	server.Start()
	m.start()
	load.end()
	m.level("ledger")
	r := m.verify("ledger", 0)
	t.Logf("held at height %d through %v, %d kills of consensus and a kill -9 of CometBFT; held at a start at height "+
		"%d; %d blocks, %d events, no fault; %d transactions kept", height, patience, kills+1, at, r.Units, r.Events,
		load.kept(m))
}

// held waits until the node is held, and asserts what a held node shows. It returns the height. If
// height is not 0, the node must still stand there.
func (m *machine) held(t *testing.T, height uint64) uint64 {
	t.Helper()
	var s *apiv1.StatusResponse
	var err error
	m.until("the node is held", func() bool {
		ctx, cancel := m.ask()
		defer cancel()
		s, err = m.cl.Status(ctx)
		if err == nil && height != 0 {
			require.Equal(t, height, s.Height, "a block has passed")
		}
		return err == nil && len(s.Held) == 1
	}, func() any { return fmt.Sprint(s.GetReadiness(), err) })

	require.False(t, s.Ready)
	require.Equal(t, "ledger", s.Held[0].Sinks[0].Name)
	require.Equal(t, s.Height+1, s.Held[0].Height)
	require.Equal(t, http.StatusOK, probe(t, m, "/healthz"))
	require.Equal(t, http.StatusServiceUnavailable, probe(t, m, "/readyz"))

	ctx, cancel := m.ask()
	defer cancel()
	_, err = m.cl.Tree(ctx)
	require.NoError(t, err, "admin answers")
	require.NotEmpty(t, m.stream("ledger").GetLastCause().GetText(), "streams answer")
	_, _, err = m.cl.Get(ctx, []byte("k"))
	require.NoError(t, err, "get answers")
	body, err := kv.Encode(kv.Add([]byte("held"), 1))
	require.NoError(t, err)
	raw, err := m.cl.NewTx(kv.Name, body, time.Minute).Encode()
	require.NoError(t, err)
	_, err = m.cl.SubmitMany(ctx, [][]byte{raw}, false)
	require.NoError(t, err, "submit answers")

	return s.Height
}

func probe(t *testing.T, m *machine, path string) int {
	t.Helper()
	n, err := api.ReadNodeFile(m.home)
	require.NoError(t, err)
	resp, err := http.Get("http://" + n.Address + path)
	require.NoError(t, err)
	resp.Body.Close()
	return resp.StatusCode
}

// cometOf returns the process id of the node's CometBFT, or 0.
func cometOf(t *testing.T, m *machine) (pid int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(comethome.Dir(m.home), "pid"))
	if err == nil {
		_, err = fmt.Sscan(string(text), &pid)
	}
	if err != nil {
		return 0
	}
	return pid
}

// strike kills a part of the tree and waits until its successor lives.
func (m *machine) strike(t *testing.T, path string, how apiv1.How) {
	t.Helper()
	var err error
	m.until(fmt.Sprintf("%s of %s hits", rig.HowWord(how), path), func() bool {
		ctx, cancel := m.ask()
		defer cancel()
		release := time.Duration(0)
		if how == apiv1.How_HOW_HANG {
			release = time.Second
		}
		_, err = m.cl.Kill(ctx, path, how, release)
		return err == nil
	}, func() any { return err })
}

// halts starts the node if it does not run, and returns how its process ended by itself.
func (m *machine) halts(t *testing.T, args ...string) string {
	t.Helper()
	if m.proc == nil {
		m.args = args
		m.begin()
	}
	select {
	case <-m.proc.Done():
	case <-time.After(most):
		t.Fatalf("the node has not ended within %v", most)
	}
	exit := m.proc.Exit()
	m.proc = nil
	return exit
}
