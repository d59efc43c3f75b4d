package comet

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/comettest"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/ladder"
	"github.com/coppice-go/coppice/engines/consensus/comet/manager"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
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
	var slow atomic.Bool // a core that is not there yet
	slow.Store(true)
	c.fail = func(string) error {
		if slow.Load() {
			return &engines.DownError{Engine: "ordering"}
		}
		return nil
	}
	d := Driver{Home: home, Intensity: supervisor.Intensity{Max: 10, Period: time.Minute}, Log: zap.New(seen),
		Manager: consensus.Manager{Listen: l.Addr().String()}}
	sup, err := supervisor.New(supervisor.Spec{Name: "test",
		Build: supervisor.Children(supervisor.Child{ID: "consensus", Start: d.Start(c.core("test"))})})
	require.NoError(t, err)
	var run *supervisor.Run
	var starting sync.WaitGroup
	starting.Go(func() {
		var err error
		run, err = sup.Start(context.Background())
		assert.NoError(t, err)
	})
	resetsBefore := askAll(t, comettest.Published{URL: "http://" + l.Addr().String()}, home, false)
	require.Zero(t, resetsBefore)
	slow.Store(false)
	starting.Wait()
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
		"": "no peer is connected whose RPC can be reached", "?period_count=x": `period_count: "x"`} {
		answer := call(t, "GET", url+"/hard_reset"+query, "")
		require.Equal(t, false, answer["status"])
		require.Contains(t, answer["message"], want)
	}
	require.Contains(t, call(t, "POST", url+"/params", "{}")["error"], "nothing was changed")
	after, err := comethome.ReadGenesis(home)
	require.NoError(t, err)
	require.Equal(t, genesis, after)
	require.Equal(t, pid, pidOf(t, home))

	require.Equal(t, 2, askAll(t, comettest.Published{URL: url}, home, true))
	status := call(t, "GET", url+"/status", "")
	require.Equal(t, string(manager.Running), status["state"])
	require.Equal(t, "test", status["chain_id"])
	require.EqualValues(t, 3, status["resets"])

	c.submit("second=2")
	c.await(t, func() bool { return len(c.pool) == 0 })
	require.Zero(t, run.Tree().Children[0].Restarts)
}

// askAll makes all calls of the published manager's client at once, and checks that each answer is
// true. up says whether CometBFT can start: until then nothing is reset. It returns how many resets
// were made. Item 34.
func askAll(t *testing.T, c comettest.Published, home string, up bool) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	id, err := comethome.ReadIdentity(home)
	require.NoError(t, err)
	require.Eventually(t, func() bool { // the manager listens
		_, _, _, _, err := c.Params(ctx)
		return err == nil
	}, time.Minute, 5*time.Millisecond)

	var made atomic.Int64
	var running sync.WaitGroup
	for n := range 4 {
		running.Go(func() {
			peer, _, ok, problem, err := c.Params(ctx)
			assert.NoError(t, err)
			assert.True(t, ok, problem)
			assert.Equal(t, id.NodeID, peer)
		})
		running.Go(func() {
			hash, problem, err := c.AppHash(ctx, []string{"1", "", "100000", "x"}[n])
			assert.NoError(t, err)
			assert.NotEqual(t, hash == "", problem == "")
			assert.False(t, hash != "" && (n > 1 || !up), hash)
		})
		running.Go(func() {
			ok, problem, err := c.SetParams(ctx, map[string]any{})
			assert.NoError(t, err)
			assert.False(t, ok)
			assert.Contains(t, problem, "nothing was changed")
		})
		running.Go(func() {
			ok, text, err := c.Reset(ctx, "hard", url.Values{"period_count": {"7"}})
			assert.NoError(t, err)
			assert.False(t, ok, text)
		})
		if n > 1 {
			continue
		}
		running.Go(func() {
			ok, text, err := c.Reset(ctx, "gentle", nil)
			assert.NoError(t, err)
			assert.Equal(t, up, ok, text)
			assert.Equal(t, up, !strings.Contains(text, "nothing was changed"), text)
			if ok {
				made.Add(1)
			}
		})
	}
	running.Wait()

	return int(made.Load())
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

// After five attempts that have not helped, an error says so, in the log and in the status. Item
// 25.
func TestTheWatchdogSaysWhenItsRestartsDoNotHelp(t *testing.T) {
	seen, logs := observer.New(zapcore.ErrorLevel)
	m := manager.NewMachine(nil, nil, nil)
	w := &watchdog{resets: m, log: zap.New(seen)}
	step := func(n int) ladder.Step {
		return ladder.Stall{Height: 7, Attempts: n, Why: whyAlone, Fit: true, Alone: true}.Next(nil)
	}
	for n := range ladder.Most {
		w.tell(step(n))
		require.Equal(t, manager.Stalled, m.Status(0).State)
	}
	require.Zero(t, logs.Len())

	w.tell(step(ladder.Most))
	require.Equal(t, manager.Abandoned, m.Status(0).State)
	require.Equal(t, ladder.Most+1, m.Status(0).Restarts)
	require.Contains(t, logs.All()[0].Message,
		"no block after 7: this is the only validator; 5 attempts have not helped")
}

// A lost connection says the published lines, with the line that showed it. A planned stop says
// none of them: a gentle reset, a reset of the chain, and a stop of the node. Items 10, 11 and 30.
func TestALostConnectionSaysThePublishedLines(t *testing.T) {
	m := newNetwork(t, 1)[0]
	m.manager = freePort(t)
	run := m.start(t)
	m.past(t, 1)
	ok, text := m.reset(t, "/gentle_reset")
	require.True(t, ok, text)
	m.past(t, m.height()+1)
	m.core.submit("reset=1")
	m.core.await(t, func() bool { return m.core.state.Period == 1 && m.core.state.Height > 0 })
	require.Zero(t, m.logs.FilterMessage(manager.SayDropped).Len())

	require.NoError(t, run.Kill("consensus/"+childABCI, nil))
	m.past(t, m.height()+2)
	var lines []string
	for _, e := range m.logs.All() {
		lines = append(lines, e.Message)
	}
	i := slices.Index(lines, manager.SayDropped)
	require.Greater(t, i, 1)
	require.Equal(t, []string{"Tendermint process stopped", "Tendermint process started"}, lines[i-2:i])
	require.Contains(t, lines[i+1], "Stopping abci.socketClient for error: read message: ")

	require.NoError(t, run.Stop(context.Background()))
	require.Equal(t, 1, m.logs.FilterMessage(manager.SayDropped).Len())
}

// CometBFT lives on after a consensus failure. The node says so: in the log, and as the state of
// the machine. Item 32. The failure is that of a set of validators without any.
func TestAConsensusFailureOfOurNodesLivingCometBFTIsTold(t *testing.T) {
	m := newNetwork(t, 1)[0]
	m.manager = freePort(t)
	m.start(t)
	m.past(t, 1)
	pid := pidOf(t, m.home)
	g, err := comethome.ReadGenesis(m.home)
	require.NoError(t, err)

	m.core.mu.Lock()
	m.core.updates = []*logv1.ValidatorUpdate{{KeyType: comethome.KeyEd25519, PubKey: g.Validators[0].PubKey}}
	m.core.mu.Unlock()

	status := func() manager.Status {
		res, err := http.Get("http://" + m.manager + "/status")
		require.NoError(t, err)
		defer res.Body.Close()
		var s manager.Status
		require.NoError(t, json.NewDecoder(res.Body).Decode(&s))
		return s
	}
	require.Eventually(t, func() bool { return status().State == manager.Broken }, time.Minute, 10*time.Millisecond)
	require.Contains(t, status().Failure, "CONSENSUS FAILURE!!!")
	require.NoError(t, syscall.Kill(pid, 0), "the process lives")
	require.NotZero(t, m.logs.FilterLevelExact(zapcore.ErrorLevel).FilterMessageSnippet("CONSENSUS FAILURE!!!").Len())
}

// idleResets returns the resets of a tree whose test makes none.
func idleResets() *resets { return newResets(Driver{Log: zap.NewNop(), health: newHealth(nil)}) }
