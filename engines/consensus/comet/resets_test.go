package comet

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/coppice-go/coppice/engines/consensus"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/manager"
	"github.com/coppice-go/coppice/supervisor"
)

// call makes a request of the published manager's client. That client's code runs only within its
// framework, so this one was written from the specification.
func call(t *testing.T, method, url, body string) map[string]any {
	t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, string(data))
	var out map[string]any
	require.NoError(t, json.Unmarshal(data, &out), string(data))
	return out
}

// The published manager's calls work on our node too (items 34 and 36 of the specification of
// consensus control): a gentle reset restarts CometBFT, and the chain goes on. What would take the
// node from its chain is refused with the reason.
func TestOurNodeAnswersThePublishedManagersCalls(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	seen, logs := observer.New(zapcore.InfoLevel)

	c, home := newFakeCore(), newHome(t, comethome.Options{})
	d := Driver{Home: home, Intensity: supervisor.Intensity{Max: 10, Period: time.Minute}, Log: zap.New(seen),
		Manager: consensus.Manager{Listen: l.Addr().String()}}
	sup, err := supervisor.New(supervisor.Spec{Name: "test",
		Build: supervisor.Children(supervisor.Child{ID: "consensus", Start: d.Start(c.core("test"))})})
	require.NoError(t, err)
	run, err := sup.Start(context.Background())
	require.NoError(t, err)
	defer func() { require.NoError(t, run.Stop(context.Background())) }()

	c.submit("first=1")
	c.await(t, func() bool { return len(c.pool) == 0 })
	pid, url := pidOf(t, home), "http://"+l.Addr().String()

	params := call(t, "GET", url+"/params", "")
	id, err := comethome.ReadIdentity(home)
	require.NoError(t, err)
	require.Equal(t, id.NodeID, params["params"].(map[string]any)["peer_id"])
	require.Equal(t, true, params["status"])
	require.Contains(t, call(t, "GET", url+"/app_hash?height=1", ""), "app_hash")
	require.Contains(t, call(t, "GET", url+"/app_hash?height=none", "")["error"], "height")

	require.Equal(t, map[string]any{"message": "Reset successful.", "status": true},
		call(t, "GET", url+"/gentle_reset", ""))
	require.NotEqual(t, pid, pidOf(t, home))
	var said []string
	for _, e := range logs.All() {
		for _, line := range []string{"Monitoring thread terminated", "Tendermint process stopped",
			"Tendermint process started", "Monitoring thread started"} {
			if e.Message == line {
				said = append(said, line)
			}
		}
	}
	require.Equal(t, []string{"Monitoring thread terminated", "Tendermint process stopped",
		"Tendermint process started", "Monitoring thread started"}, said)

	genesis, err := comethome.ReadGenesis(home)
	require.NoError(t, err)
	pid = pidOf(t, home)
	for query, want := range map[string]string{"?period_count=1": "names another epoch than that of this node, 0",
		"": "is not rebuilt in a home that has it", "?period_count=x": `period_count: "x"`} {
		answer := call(t, "GET", url+"/hard_reset"+query, "")
		require.Equal(t, false, answer["status"])
		require.Contains(t, answer["message"], want)
	}
	require.Contains(t, call(t, "POST", url+"/params", "{}")["error"], "nothing was changed")
	after, err := comethome.ReadGenesis(home)
	require.NoError(t, err)
	require.Equal(t, genesis, after)
	require.Equal(t, pid, pidOf(t, home))

	status := call(t, "GET", url+"/status", "")
	require.Equal(t, string(manager.Running), status["state"])
	require.Equal(t, "test", status["chain_id"])
	require.EqualValues(t, 1, status["resets"])

	c.submit("second=2")
	c.await(t, func() bool { return len(c.pool) == 0 })
	require.Zero(t, run.Tree().Children[0].Restarts)
}

// The answer to a reset says whether CometBFT is up, has ended, or is still starting.
func TestTheAnswerToAResetIsTrue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := idleResets()
		_, err := r.Gentle(t.Context())
		require.ErrorContains(t, err, "the consensus is starting")

		s := &starts{}
		s.begin()
		s.came() // the process before the reset
		before := s.begun()
		text, err := r.awaitUp(t.Context(), &tree{starts: s}, before)
		require.NoError(t, err)
		require.Contains(t, text, "has not shaken hands")

		s.begin()
		s.failed, s.why = 1, "the disk is full"
		_, err = r.awaitUp(t.Context(), &tree{starts: s}, before)
		require.ErrorContains(t, err, "has ended: the disk is full")

		s.begin()
		go func() {
			<-time.After(time.Second)
			s.came()
		}()
		text, err = r.awaitUp(t.Context(), &tree{starts: s}, before)
		require.NoError(t, err)
		require.Empty(t, text)
	})
}

// After five restarts that have not helped, an error says so, in the log and in the status.
func TestTheWatchdogSaysWhenItsRestartsDoNotHelp(t *testing.T) {
	seen, logs := observer.New(zapcore.ErrorLevel)
	m := manager.NewMachine(nil, nil, nil)
	w := &watchdog{resets: m, log: zap.New(seen)}
	for n := range mostHelp {
		w.tell(7, n, "this is the only validator")
		require.Equal(t, manager.Stalled, m.Status(0).State)
	}
	require.Zero(t, logs.Len())

	w.tell(7, mostHelp, "this is the only validator")
	require.Equal(t, manager.Abandoned, m.Status(0).State)
	require.Equal(t, mostHelp+1, m.Status(0).Restarts)
	require.Contains(t, logs.All()[0].Message,
		"no block after 7: this is the only validator; 5 restarts have not helped")
}

// idleResets returns the resets of a tree whose test makes none.
func idleResets() *resets { return newResets(Driver{Log: zap.NewNop(), health: newHealth(nil)}) }
