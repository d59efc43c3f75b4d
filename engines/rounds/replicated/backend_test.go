package replicated_test

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/backendtest"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
)

type oracle struct {
	Prices   map[rounds.Agent]int `json:"prices,omitempty"`
	Estimate int                  `json:"estimate"`
	Keeper   rounds.Agent         `json:"keeper"`
	Total    int                  `json:"total"`
}

// service is a price oracle that panics at some prices, with a background round that interrupts it.
func service() *rounds.Service[oracle] {
	number := func(context.Context, oracle) (int, error) { return rand.IntN(5), nil }
	app := rounds.Table[oracle]{
		Label: "OracleAbciApp", Start: "observe", Timeouts: rounds.Timeouts{rounds.Timeout: 6 * time.Second},
		Keep: func(o oracle) oracle { return oracle{Total: o.Total} },
		Rounds: rounds.Rows[oracle]{
			"observe": {Round: rounds.Different(1, number, func(o oracle, said []rounds.Said[int]) oracle {
				o.Prices = map[rounds.Agent]int{}
				for _, s := range said {
					o.Prices[s.Agent] = s.Value
				}
				return o
			}), On: rounds.On{rounds.Done: "estimate", rounds.Timeout: "observe"}},
			"estimate": {Round: rounds.Same(func(_ context.Context, o oracle) (int, error) {
				return len(o.Prices), nil
			}, func(o oracle, n int) oracle {
				if n == 3 {
					panic("three prices")
				}
				o.Estimate = n
				return o
			}), On: rounds.On{rounds.Done: "choose", rounds.None: "observe", rounds.NoMajority: "observe",
				rounds.Timeout: "observe"}},
			"choose": {Round: rounds.SelectKeeper(func(_ context.Context, o oracle) (string, error) {
				return fmt.Sprint(o.Estimate), nil
			}, nil, func(o oracle, a rounds.Agent) oracle {
				o.Keeper = a
				return o
			}), On: rounds.On{rounds.Done: "publish", rounds.None: "choose", rounds.NoMajority: "choose",
				rounds.Timeout: "choose"}},
			"publish": {Round: rounds.Keeper(func(o oracle) rounds.Agent { return o.Keeper }, number,
				func(o oracle, _ int) oracle {
					o.Total++
					return o
				}), On: rounds.On{rounds.Done: "published", rounds.Fail: "choose", rounds.Timeout: "choose"}},
			"published": {Round: rounds.Final[oracle]()},
		},
	}
	slash := rounds.Table[oracle]{Label: "SlashAbciApp", Start: "slash",
		Timeouts: rounds.Timeouts{rounds.Timeout: 6 * time.Second},
		Rounds: rounds.Rows[oracle]{
			"slash": {Round: rounds.Same(number, func(o oracle, _ int) oracle { return o }),
				On: rounds.On{rounds.Done: "slashed", rounds.None: "slashed", rounds.NoMajority: "slashed",
					rounds.Timeout: "slashed"}},
			"slashed": {Round: rounds.Final[oracle]()},
		}}

	return rounds.Compose("OracleService", rounds.Links{rounds.Registered: "observe", "published": rounds.ResetAndPause,
		rounds.PeriodEnded: "observe", rounds.PeriodFailed: rounds.Registration},
		rounds.RegistrationApp[oracle]("v1"), app,
		rounds.ResetApp[oracle](rounds.Every(3), rounds.Pause(2*time.Second))).Beside(
		rounds.Background[oracle]{Label: "OffenceAbciApp", Kind: rounds.Normal,
			Round: rounds.Same(number, func(o oracle, _ int) oracle { return o }), On: rounds.Done, App: &slash})
}

// party is a chain with the keys of its agents.
type party struct {
	genesis chain.Genesis
	keys    map[rounds.Agent]ed25519.PrivateKey
}

func newParty(n int, threshold uint64) party {
	p := party{chain.NewGenesis("test", time.Unix(1, 0)), map[rounds.Agent]ed25519.PrivateKey{}}
	p.genesis.AgentThreshold = threshold
	p.genesis.Resets = &chain.Resets{Mode: chain.Regenesis, Offset: 20}
	for i := range n {
		key := ed25519.NewKeyFromSeed(fmt.Appendf(nil, "%032d", i))
		name := rounds.Agent(fmt.Sprintf("agent%d", i))
		p.keys[name] = key
		p.genesis.Agents = append(p.genesis.Agents, chain.Agent{Name: string(name),
			Key: key.Public().(ed25519.PublicKey), Validator: hex.EncodeToString([]byte(name))})
	}
	return p
}

func encoded(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// node is a state on which one backend executes blocks.
type node struct {
	t       *testing.T
	backend *replicated.Backend[oracle]
	state   backendtest.State
	failed  error // reported by the last hook
}

func (n *node) read() rounds.State[oracle] {
	st, _, err := replicated.Read[oracle](func(key []byte) ([]byte, bool, error) {
		value, found := n.state.Keys[string(key)]
		return []byte(value), found, nil
	})
	require.NoError(n.t, err)
	if st.Count == 0 {
		return n.backend.Begin()
	}
	return st
}

// block executes a block and returns the reasons of its refusals.
func (n *node) block(p party, b rounds.Block, zone *time.Location) (refused []rounds.Reason) {
	at := chain.Block{ChainID: "test", Period: b.Epoch, Height: b.Height, Time: b.Time.In(zone)}
	for i, payload := range b.Payloads {
		body := payload.Sign("test", p.keys[payload.Agent])
		at.Txs = append(at.Txs, body)
		n.state.Version = chain.Version{Period: b.Epoch, Height: b.Height, Index: uint32(i)}
		n.state.BlockTime = at.Time
		require.NoError(n.t, n.backend.Check(body))
		data, err := n.state.Execute(n.backend, body)
		require.NoError(n.t, err)
		var result replicated.Result
		require.NoError(n.t, json.Unmarshal(data, &result))
		if result.Refused != "" {
			refused = append(refused, result.Refused)
		}
	}

	for _, a := range b.Absent {
		at.Absent = append(at.Absent, []byte(a))
	}
	for _, a := range b.DoubleSigned {
		at.DoubleSigned = append(at.DoubleSigned, []byte(a))
	}

	n.failed = nil
	if err := n.state.EndBlock(n.backend, at); !errors.As(err, new(chain.Reported)) {
		require.NoError(n.t, err)
	} else {
		n.failed = err
	}

	for key := range n.state.Keys {
		if !strings.HasPrefix(key, chain.RoundsPrefix) && key != chain.ResetKey {
			n.t.Fatalf("it wrote %q", key)
		}
	}
	return refused
}

// disturbed returns b with payloads that are wrong in every way, and with offences of validators.
func disturbed(b rounds.Block, st rounds.State[oracle], p party, r *rand.Rand) rounds.Block {
	names := slices.Sorted(maps.Keys(p.keys))
	b.Payloads = slices.Clone(b.Payloads)
	labels := []string{"OracleAbciApp", "OffenceAbciApp", "OffenceAbciApp", "SlashAbciApp", "NoSuchAbciApp"}
	bytes := []string{"1", "2", "", "1.0", "[1]", "NaN", `"1"`, strings.Repeat("9", 400)}
	for range r.IntN(4) {
		count := st.Count
		label := labels[r.IntN(len(labels))]
		if label == "OffenceAbciApp" {
			count = st.Sides[0].Count
		}
		payload := rounds.Payload{Agent: names[r.IntN(len(names))], Label: label, Count: count + uint64(r.IntN(12)/10),
			Bytes: []byte(bytes[r.IntN(len(bytes))])}
		if len(b.Payloads) > 0 && r.IntN(3) == 0 {
			payload = b.Payloads[r.IntN(len(b.Payloads))]
		}
		b.Payloads = slices.Insert(b.Payloads, r.IntN(len(b.Payloads)+1), payload)
	}

	if r.IntN(8) == 0 {
		b.Absent = append(b.Absent, names[r.IntN(len(names))])
	}
	if r.IntN(8) == 0 {
		b.DoubleSigned = append(b.DoubleSigned, names[r.IntN(len(names))], "nobody")
	}
	if r.IntN(5) == 0 {
		b.Time = b.Time.Add(time.Duration(r.IntN(9)) * time.Second)
	}
	return b
}

// The backend, payload by payload and with its hook, makes of random histories what Step makes of
// them, in any time zone. A block in which nothing happens writes nothing.
func TestTheBackendIsStep(t *testing.T) {
	zones := []*time.Location{time.UTC, time.FixedZone("east", 5*3600), time.FixedZone("west", -7*3600)}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	events, reasons := map[rounds.Event]int{}, map[rounds.Reason]int{}
	idle, broken, interrupted, downtime, resets := 0, 0, 0, 0, 0

	histories := 15
	if os.Getenv("COPPICE_SOAK") != "" {
		histories = 500
	}

	for history := range histories {
		p := newParty(1+r.IntN(5), 0)
		backend, err := replicated.Bind(service(), p.genesis)
		require.NoError(t, err)
		n := &node{t: t, backend: backend}
		m := rounds.Machine[oracle]{Service: service(), Agents: agentsOf(t, p)}
		st := m.Service.Begin(m.Agents)
		g := generator{r: r, p: p}

		place, decided, since := rounds.Place{Height: 1}, time.Time{}, 10
		for range 60 {
			height := place.Height
			b := g.block(m, st, height)
			b.Place = place
			if r.IntN(6) > 0 {
				b = disturbed(b, st, p, r)
			} else {
				b.Payloads = nil // only the hook runs
			}
			switch since {
			case 0: // the first block of an epoch has the time of the decision
				b.Time = decided
			case 1:
				b.Resumed = decided
			}

			var report rounds.Report
			before := maps.Clone(n.state.Keys)
			old := encoded(t, st)
			st, report = m.Step(st, b)

			refused := n.block(p, b, zones[history%len(zones)])
			var want []rounds.Reason
			for _, refusal := range report.Refusals {
				want = append(want, refusal.Reason)
				reasons[refusal.Reason]++
			}
			require.Equal(t, want, refused, "seed %d, history %d, height %d", seed, history, height)
			require.Equal(t, encoded(t, st), encoded(t, n.read()), "seed %d, history %d, height %d", seed, history,
				height)

			place.Height++
			since++
			if raw, due := n.state.Keys[chain.ResetKey]; due {
				reset, err := chain.DecodeReset([]byte(raw))
				require.NoError(t, err)
				require.Equal(t, chain.Reset{Epoch: b.Epoch, Height: height, TimeNs: b.Time.UnixNano(), Offset: 20},
					*reset)
				require.True(t, slices.ContainsFunc(report.Ended, func(e rounds.Ended) bool { return e.Reset }))
				delete(n.state.Keys, chain.ResetKey) // as the first block of the next epoch does
				place = rounds.Place{Epoch: b.Epoch + 1, Height: reset.InitialHeight()}
				decided, since = b.Time, 0
				g.now = g.now.Add(time.Duration(r.IntN(20)) * time.Second)
				resets++
				continue
			}
			require.False(t, slices.ContainsFunc(report.Ended, func(e rounds.Ended) bool { return e.Reset }))

			if old == encoded(t, st) && since > 1 {
				require.Equal(t, before, n.state.Keys, "nothing happened")
				idle++
			}
			for _, e := range report.Ended {
				events[e.Event]++
			}
			broken += len(report.Failed)
			for _, f := range report.Failed { // all panics of this service are in the end of a round
				require.ErrorContains(t, n.failed, "round "+string(f.Round)+": three prices; only a timeout ends it")
			}
			require.Equal(t, len(report.Failed) > 0, n.failed != nil)
			if st.Interrupted != nil {
				interrupted++
			}
			for _, offences := range st.Offences {
				downtime += int(offences.Downtime)
			}
		}
	}

	t.Logf("seed %d: events %v, reasons %v, %d idle blocks, %d failures, %d resets", seed, events, reasons, idle,
		broken, resets)
	for _, count := range []int{events[rounds.Done], events[rounds.Timeout], reasons[rounds.Early],
		reasons[rounds.Malformed], reasons[rounds.Spoken], idle, broken, interrupted, downtime, resets} {
		require.NotZero(t, count)
	}
}

// generator makes the payloads of honest agents.
type generator struct {
	r   *rand.Rand
	p   party
	now time.Time
}

func (g *generator) block(m rounds.Machine[oracle], st rounds.State[oracle], height uint64) rounds.Block {
	if g.now.IsZero() {
		g.now = time.Unix(1_000_000, 7)
	}
	g.now = g.now.Add(time.Duration(1+g.r.IntN(2_000)) * time.Millisecond).Add(3)
	b := rounds.Block{Place: rounds.Place{Height: height}, Time: g.now.UTC()}
	label := m.Service.LabelOf(st.Round)
	round, _ := m.Service.Round(st.Round)
	behaviour, acts := round.(rounds.Behaviour[oracle])

	for _, a := range slices.Sorted(maps.Keys(g.p.keys)) {
		var said []byte
		if st.Round == rounds.ResetAndPause {
			said = fmt.Append(nil, st.Period)
		} else if acts {
			said, _ = behaviour.Act(context.Background(), st.App)
		}
		if g.r.IntN(6) > 0 {
			b.Payloads = append(b.Payloads, rounds.Payload{Agent: a, Label: label, Count: st.Count, Bytes: said})
		}
	}
	return b
}

func agentsOf(t *testing.T, p party) rounds.Agents {
	t.Helper()
	agents, err := rounds.NewAgents(int(p.genesis.AgentThreshold), slices.Collect(maps.Keys(p.keys))...)
	require.NoError(t, err)
	return agents
}

// What needs no state is refused before a block has it: other bytes, strangers, forged signatures,
// and payloads for another chain. A wrong count is the block's business. Checklist 69.
func TestCheckRefusesWhatNoStateMakesRight(t *testing.T) {
	p := newParty(4, 0)
	b, err := replicated.Bind(service(), p.genesis)
	require.NoError(t, err)
	said := rounds.Payload{Agent: "agent1", Label: "OracleAbciApp", Count: 1, Bytes: []byte("1")}
	good := said.Sign("test", p.keys["agent1"])
	require.NoError(t, b.Check(good))
	prepared, err := b.Prepare(good)
	require.NoError(t, err)
	require.Equal(t, said, prepared)
	_, err = b.ExecutePrepared(nil, good)
	require.ErrorContains(t, err, "[]uint8 is not what Prepare returns")
	for count := range uint64(3) {
		said.Count = 10 * count
		require.NoError(t, b.Check(said.Sign("test", p.keys["agent1"])), "the block judges counts")
	}

	stranger := said
	stranger.Agent = "nobody"
	for name, body := range map[string][]byte{
		"empty": nil, "short": good[:70], "longer": append(slices.Clone(good), 0),
		"stranger":      stranger.Sign("test", p.keys["agent1"]),
		"forged":        said.Sign("test", p.keys["agent2"]),
		"another chain": said.Sign("other", p.keys["agent1"]),
	} {
		require.ErrorIs(t, b.Check(body), rounds.ErrPayload, name)
		var s backendtest.State
		_, err := s.Execute(b, body)
		require.ErrorIs(t, err, rounds.ErrPayload, name)
		require.Empty(t, s.Keys)
	}
}

// A payload is valid in the transaction that it was signed for, and in no other: nobody can use up
// the room of an agent, or make it speak twice, with copies of what it has sent. Item 73.
func TestAPayloadCannotBeCopied(t *testing.T) {
	p := newParty(4, 0)
	b, err := replicated.Bind(service(), p.genesis)
	require.NoError(t, err)
	until := time.UnixMilli(1_800_000_000_000)
	said := rounds.Payload{Agent: "agent1", Label: "OracleAbciApp", Count: 1, Bytes: []byte("1"), ValidUntil: until}
	tx := said.Tx("test", p.keys["agent1"])
	require.NoError(t, chain.CheckTx(b, tx))

	later := tx
	later.ValidUntil = until.Add(time.Millisecond)
	require.ErrorContains(t, chain.CheckTx(b, later), "it was signed for 2027-01-15 08:00:00 +0000 UTC")
	require.ErrorIs(t, chain.CheckTx(b, later), rounds.ErrPayload)
	other := tx
	other.Nonce = append(slices.Clone(tx.Nonce), 0)
	require.ErrorContains(t, chain.CheckTx(b, other), "the nonce of its transaction is not that of the agent")
	forged := said
	forged.ValidUntil = later.ValidUntil
	later.Body = append(slices.Clone(tx.Body[:ed25519.SignatureSize]), forged.Sign("test", p.keys["agent1"])[64:]...)
	require.ErrorContains(t, chain.CheckTx(b, later), "the signature is not that of agent1")

	window, err := time.ParseDuration(p.genesis.Limits.Window)
	require.NoError(t, err)
	tick := rounds.Tick{Count: 1, After: until}.Tx(window, until)
	require.NoError(t, chain.CheckTx(b, tick))

	// Payloads of an agent have bounds, and so have all ticks together, because nobody signs them.
	sender, most := b.Sender(tx.Body)
	require.Equal(t, "agent agent1", sender)
	require.Equal(t, chain.Bounds{Waiting: 16, Block: 3}, most)
	invented, most := b.Sender(rounds.Tick{Count: 9999, After: until}.Encode())
	sender, _ = b.Sender(tick.Body)
	require.NotEmpty(t, sender)
	require.Equal(t, sender, invented)
	require.Equal(t, chain.Bounds{Waiting: 16, Block: 3}, most)
	sender, _ = b.Sender([]byte("nothing"))
	require.Empty(t, sender)

	tick.Nonce = []byte{1}
	require.ErrorContains(t, chain.CheckTx(b, tick), "tick with a nonce of 1 bytes, want none")
	tick = rounds.Tick{Count: 1, After: until}.Tx(window, until.Add(3*window))
	require.NoError(t, chain.CheckTx(b, tick))
	tick.ValidUntil = tick.ValidUntil.Add(time.Millisecond)
	require.ErrorContains(t, chain.CheckTx(b, tick), "want whole windows")
}

// A read that fails is passed on, and nothing is written.
func TestAFailedReadIsPassedOn(t *testing.T) {
	p := newParty(1, 0)
	b, err := replicated.Bind(service(), p.genesis)
	require.NoError(t, err)
	body := rounds.Payload{Agent: "agent0", Label: "RegistrationAbciApp", Count: 1}.Sign("test", p.keys["agent0"])
	down := errors.New("down")
	for at := 1; at < 6; at++ {
		s := backendtest.State{FailAt: at, Fail: down}
		_, err := s.Execute(b, body)
		require.ErrorIs(t, err, down)
		require.Empty(t, s.Keys)
	}
}

// The backend says what of a genesis, or of a service, keeps it from a chain.
func TestForGenesisNamesWhatIsWrong(t *testing.T) {
	unbound := replicated.New(service())
	require.ErrorIs(t, unbound.Check(nil), replicated.ErrNoGenesis)

	p := newParty(4, 0)
	backends := map[string]chain.Backend{rounds.Backend: unbound}
	require.NoError(t, chain.BindBackends(p.genesis, backends))
	require.Len(t, chain.BlockBackends(backends), 1)

	versioned, err := replicated.New(service().WithVersions(2, 3).Beside()).ForGenesis(p.genesis)
	require.NoError(t, err)
	oldest, newest := chain.BackendVersions(versioned)
	require.Equal(t, [2]uint32{2, 3}, [2]uint32{oldest, newest})

	never := p.genesis
	never.Resets = nil
	_, err = unbound.ForGenesis(never)
	require.ErrorContains(t, err, "resets the chain each 3 periods")

	bare := p.genesis
	bare.Agents = nil
	_, err = unbound.ForGenesis(bare)
	require.ErrorContains(t, err, "genesis.json: agents: none is registered for the service OracleService")

	_, err = replicated.New(rounds.Compose[oracle]("Empty", nil)).ForGenesis(p.genesis)
	require.ErrorContains(t, err, "the service has no app")
	p.genesis.AgentThreshold = 1
	_, err = unbound.ForGenesis(p.genesis)
	require.ErrorContains(t, err, "expected 3 to 4")
}

// A tick changes nothing itself. It succeeds only where the FSM needs it, and its block's hook
// fires the timeout.
func TestATickBringsTheTimeout(t *testing.T) {
	p := newParty(1, 0)
	service := rounds.Compose("TestService", nil, rounds.Table[oracle]{Label: "TestAbciApp", Start: "wait",
		Timeouts: rounds.Timeouts{rounds.Timeout: 7 * time.Second},
		Rounds: rounds.Rows[oracle]{"wait": {
			Round: rounds.DifferentUntilAll(func(context.Context, oracle) (int, error) { return 1, nil },
				func(o oracle, _ []rounds.Said[int]) oracle { return o }),
			On: rounds.On{rounds.Done: "wait", rounds.Timeout: "wait"}}}})
	backend, err := replicated.Bind(service, p.genesis)
	require.NoError(t, err)
	n := &node{t: t, backend: backend}
	now := time.Unix(1000, 0).UTC()
	n.block(p, rounds.Block{Place: rounds.Place{Height: 1}, Time: now}, time.UTC)

	tick, ok := n.read().NextTick(0, now)
	require.True(t, ok)
	require.NoError(t, backend.Check(tick.Encode()))
	after, ok := backend.NotBefore(tick.Encode())
	require.True(t, ok)
	require.Equal(t, now.Add(7*time.Second), after)
	_, ok = backend.NotBefore(rounds.Payload{Agent: "agent0"}.Sign("test", p.keys["agent0"]))
	require.False(t, ok)

	was := maps.Clone(n.state.Keys)
	n.state.Version, n.state.BlockTime = chain.Version{Height: 2}, after
	_, err = n.state.Execute(backend, tick.Encode())
	require.ErrorIs(t, err, rounds.ErrTick, "at the deadline")
	n.state.BlockTime = after.Add(1)
	_, err = n.state.Execute(backend, tick.Encode())
	require.NoError(t, err)
	require.Equal(t, was, n.state.Keys)

	n.block(p, rounds.Block{Place: rounds.Place{Height: 2}, Time: after.Add(1)}, time.UTC)
	require.EqualValues(t, 2, n.read().Count, "the timeout has fired")
	_, err = n.state.Execute(backend, tick.Encode())
	require.ErrorIs(t, err, rounds.ErrTick, "it is of an earlier count")
}
