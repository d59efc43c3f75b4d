package node

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/plan"
)

// tallied is the state of the service of the tests: the sum of what the agents have agreed on.
type tallied struct {
	Sum int `json:"sum"`
}

// adding returns a service whose agents agree on a number again and again, and add it up.
func adding(say func(context.Context, tallied) (int, error), timeout time.Duration) *rounds.Service[tallied] {
	return rounds.Compose("AddingService", nil, rounds.Table[tallied]{
		Label: "AddingAbciApp", Start: "add", Timeouts: rounds.Timeouts{rounds.Timeout: timeout},
		Rounds: rounds.Rows[tallied]{"add": {
			Round: rounds.Same(say, func(s tallied, n int) tallied { return tallied{s.Sum + n} }),
			On:    rounds.On{rounds.Done: "add", rounds.None: "add", rounds.NoMajority: "add", rounds.Timeout: "add"},
		}}})
}

// agentKeys returns the keys of n agents, and the agents.
func agentKeys(n int) (keys []ed25519.PrivateKey, agents []chain.Agent) {
	for i := range n {
		key := ed25519.NewKeyFromSeed(fmt.Appendf(nil, "%032d", i))
		keys = append(keys, key)
		agents = append(agents, chain.Agent{Name: fmt.Sprint("agent", i), Key: key.Public().(ed25519.PublicKey)})
	}
	return keys, agents
}

// The rounds of a service are executed by every block of the node's chain: through a restart
// between decision and commit, and again by verify, with the state that Step makes of the same
// blocks.
func TestANodeExecutesRounds(t *testing.T) {
	keys, agents := agentKeys(4)
	service := adding(func(context.Context, tallied) (int, error) { return 1, nil }, 5*time.Second)
	dir := t.TempDir()
	_, err := home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Chaos,
		Agents: agents})
	require.NoError(t, err)
	h := driveHome(t, dir, WithRounds(service))
	_, err = h.ordering.InitChain(t.Context(), h.genesis)
	require.NoError(t, err)

	registered, err := rounds.NewAgents(0, "agent0", "agent1", "agent2", "agent3")
	require.NoError(t, err)
	m := rounds.Machine[tallied]{Service: service, Agents: registered}
	want := m.Service.Begin(registered)
	read := func() rounds.State[tallied] {
		st, _, err := replicated.Read[tallied](func(key []byte) ([]byte, bool, error) {
			value, found, _, err := h.store.Get(t.Context(), key, 0)
			return value, found, err
		})
		require.NoError(t, err)
		return st
	}

	// step makes a block of what the agents say, after a while.
	step := func(after time.Duration, restart bool, said ...rounds.Payload) {
		h.clock = h.clock.Add(after)
		var txs [][]byte
		for _, p := range said {
			p.ValidUntil = h.clock.Add(time.Minute).Truncate(time.Millisecond)
			raw, err := p.Tx("test", keys[p.Agent[len("agent")]-'0']).Encode()
			require.NoError(t, err)
			txs = append(txs, raw)
		}

		b := h.next(txs...)
		staged := h.order(b)
		require.Empty(t, staged.HookFailures)
		if restart {
			h.cut(corePath + "/ordering")
		}
		require.Equal(t, staged.AppHash, h.commit(b).AppHash)
		want, _ = m.Step(want, rounds.Block{Place: rounds.Place{Height: b.Height}, Time: b.Time.UTC(), Payloads: said})
		was, err := json.Marshal(want)
		require.NoError(t, err)
		is, err := json.Marshal(read())
		require.NoError(t, err)
		require.Equal(t, string(was), string(is))
	}
	say := func(agent rounds.Agent, count uint64, said string) rounds.Payload {
		return rounds.Payload{Agent: agent, Label: "AddingAbciApp", Count: count, Bytes: []byte(said)}
	}

	step(0, false, say("agent0", 1, "2"), say("agent1", 1, "2"))
	shown := dashboardPage(t, h.Node, "rounds")
	for _, text := range []string{"Round <b>add</b>, count 1", `<th scope="row">agent1</th><td>yes</td>`,
		`<th scope="row">agent2</th><td>not yet</td>`, string(rounds.Timeout) + " at "} {
		require.Contains(t, shown, text)
	}
	step(time.Second, true, say("agent2", 1, "2"), say("agent2", 1, "3"))
	require.Equal(t, 2, want.App.Sum)
	before := h.next()
	require.Empty(t, h.order(before).Changes, "an idle chain stays idle")
	h.commit(before)
	want, _ = m.Step(want, rounds.Block{Place: rounds.Place{Height: before.Height}, Time: before.Time.UTC()})
	step(6*time.Second, true) // an empty block, in which the timeout fires
	require.EqualValues(t, 3, want.Count)
	h.close()

	v, err := offline.Verify(t.Context(), dir, offline.VerifyOptions{
		Backends: []chain.Backend{replicated.New(service)}})
	require.NoError(t, err)
	require.EqualValues(t, 4, v.Blocks)
	replayTables(t, dir)
}

// dashboardPage returns a page of the dashboard.
func dashboardPage(t *testing.T, n *Node, name string) string {
	t.Helper()
	addr, err := n.Addr(t.Context())
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/dashboard/"+name, nil)
	require.NoError(t, err)
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, "%s", data)
	return string(data)
}

// replayTables replays other tables over the log of TestANodeExecutesRounds: agreement at height 2,
// and a timeout of 5 s at height 4, 6 s later. Checklist 81.
func replayTables(t *testing.T, dir string) {
	t.Helper()
	add := func(s tallied, n int) tallied { return tallied{s.Sum + n} }
	table := func(timeout time.Duration, done func(tallied, int) tallied) rounds.Table[tallied] {
		on := rounds.On{rounds.Done: "add", rounds.None: "add", rounds.NoMajority: "add", rounds.Timeout: "add"}
		return rounds.Table[tallied]{Label: "AddingAbciApp", Start: "add",
			Timeouts: rounds.Timeouts{rounds.Timeout: timeout},
			Rounds:   rounds.Rows[tallied]{"add": {Round: rounds.Same[tallied, int](nil, done), On: on}}}
	}
	moves := table(5*time.Second, add)
	moves.Rounds["more"] = moves.Rounds["add"]
	moves.Rounds["add"] = rounds.Row[tallied]{Round: moves.Rounds["add"].Round, On: rounds.On{rounds.Done: "more",
		rounds.None: "add", rounds.NoMajority: "add", rounds.Timeout: "add"}}

	for name, tc := range map[string]struct {
		table  rounds.Table[tallied]
		height uint64 // of the first difference; 0: none
		in     []string
		is     string
	}{
		"the same table":            {table(5*time.Second, add), 0, nil, ""},
		"a timeout that fires, too": {table(5500*time.Millisecond, add), 0, nil, ""},
		"a timeout that never fires": {table(time.Minute, add), 4, []string{"count"},
			`{"round":"add","count":2,"period":0,"state":{"sum":2},"reset":false}`},
		"a timeout that fires early": {table(500*time.Millisecond, add), 2, []string{"state"},
			`{"round":"add","count":2,"period":0,"state":{"sum":0},"reset":false}`},
		"another end": {table(5*time.Second, func(s tallied, n int) tallied { return tallied{s.Sum + 2*n} }), 2,
			[]string{"state"}, `{"round":"add","count":2,"period":0,"state":{"sum":4},"reset":false}`},
		"another transition": {moves, 2, []string{"round"},
			`{"round":"more","count":2,"period":0,"state":{"sum":2},"reset":false}`},
	} {
		r, err := offline.ReplayRounds(t.Context(), dir, offline.VerifyOptions{
			Backends: []chain.Backend{replicated.New(rounds.Compose("AddingService", nil, tc.table))}})
		require.NoError(t, err, name)
		require.Equal(t, "test", r.ChainID, name)
		require.EqualValues(t, 1, r.From, name)

		d := r.Difference
		if tc.height == 0 {
			require.Nil(t, d, name)
			require.EqualValues(t, 4, r.Blocks, name)
			require.EqualValues(t, 4, r.Payloads, name)
			require.EqualValues(t, 4, r.Height, name)
			continue
		}
		require.NotNil(t, d, name)
		require.Equal(t, tc.height, d.Height, name)
		require.Equal(t, tc.in, d.In, name)
		require.NotEqual(t, d.Was, d.Is, name)
		is, err := json.Marshal(d.Is)
		require.NoError(t, err)
		require.Equal(t, tc.is, string(is), name)
	}

	_, err := offline.ReplayRounds(t.Context(), dir, offline.VerifyOptions{})
	require.ErrorIs(t, err, exit.ErrConfig)
	require.ErrorContains(t, err, "no service of rounds among the backends")
}

// A program with a service and a chain without agents do not fit, nor the other way round.
func TestAServiceAndAGenesisFit(t *testing.T) {
	_, agents := agentKeys(4)
	service := adding(func(context.Context, tallied) (int, error) { return 1, nil }, 5*time.Second)

	for _, tc := range []struct {
		agents []chain.Agent
		opts   []Option
		want   string
	}{
		{agents, nil, "registers 4 agents, and this program has no service of rounds"},
		{nil, []Option{WithRounds(service)}, "agents: none is registered for the service AddingService"},
	} {
		dir := t.TempDir()
		_, err := home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Agents: tc.agents,
			Profile: plan.Default})
		require.NoError(t, err)
		c, err := config.Load(dir)
		require.NoError(t, err)
		_, err = New(dir, c, append(tc.opts, WithDriver(byHand{}))...)
		require.ErrorIs(t, err, exit.ErrConfig)
		require.ErrorContains(t, err, tc.want)
	}
}

// The engine rounds runs the agent of a node on solo: it acts in one round after the other, a tick
// ends a round whose behaviour hangs, and killed engines change no result.
func TestANodeRunsItsAgent(t *testing.T) {
	keys, agents := agentKeys(1)
	dir := t.TempDir()
	_, err := home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Chaos,
		Agents: agents})
	require.NoError(t, err)
	writeAgentKey(t, dir, keys[0])

	reached := make(chan int, 1000)
	var hung atomic.Bool
	service := adding(func(ctx context.Context, s tallied) (int, error) {
		reached <- s.Sum
		if s.Sum == 2 && !hung.Swap(true) {
			<-ctx.Done()
			return 0, ctx.Err()
		}
		return 1, nil
	}, 300*time.Millisecond)
	h := driveHome(t, dir, WithRounds(service), WithDriver(solo.Solo{}))
	until := func(sum int) {
		for is := range reached {
			if is >= sum {
				return
			}
		}
	}

	until(4)
	require.True(t, hung.Load())
	const engine = "coppice/node/engines/rounds"
	for _, path := range []string{corePath + "/storage", engine, engine + "/follower", "coppice/node/logger"} {
		h.cut(path)
		for len(reached) > 0 {
			<-reached
		}
		until(<-reached + 2)
	}
	h.close()

	v, err := offline.Verify(t.Context(), dir, offline.VerifyOptions{
		Backends: []chain.Backend{replicated.New(service)}})
	require.NoError(t, err)
	require.Greater(t, v.Txs, uint64(10))
	require.Less(t, v.Blocks, 2*v.Txs)
}

// The key of an agent is that of an agent of the chain.
func TestAForeignAgentKeyIsRefused(t *testing.T) {
	keys, agents := agentKeys(5)
	dir := t.TempDir()
	_, err := home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Agents: agents[:4],
		Profile: plan.Default})
	require.NoError(t, err)
	c, err := config.Load(dir)
	require.NoError(t, err)
	open := func() error {
		_, err := New(dir, c, WithDriver(byHand{}), WithRounds(adding(nil, time.Second)))
		return err
	}

	writeAgentKey(t, dir, keys[4])
	require.ErrorIs(t, open(), exit.ErrConfig)
	require.ErrorContains(t, open(), "is that of no agent in genesis.json")
	require.NoError(t, os.WriteFile(filepath.Join(dir, home.AgentKeyFile), []byte("no key"), 0o600))
	require.ErrorIs(t, open(), exit.ErrConfig)
	require.ErrorContains(t, open(), "agent.key: want the base64 of 32 bytes")
}

func writeAgentKey(t *testing.T, dir string, key ed25519.PrivateKey) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, home.AgentKeyFile),
		[]byte(base64.StdEncoding.EncodeToString(key.Seed())+"\n"), 0o600))
}
