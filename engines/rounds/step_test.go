package rounds_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/rounds"
)

const (
	observe  rounds.Name = "observe"
	estimate rounds.Name = "estimate"
	finished rounds.Name = "finished"
)

type oracle struct {
	Prices   map[rounds.Agent]int `json:"prices,omitempty"`
	Estimate int                  `json:"estimate"`
	Total    int                  `json:"total"`
}

func oracleApp() rounds.Table[oracle] {
	return rounds.Table[oracle]{
		Label: "OracleAbciApp", Start: observe,
		Timeouts: rounds.Timeouts{rounds.Timeout: 7 * time.Second},
		Keep:     func(o oracle) oracle { return oracle{Total: o.Total} },
		Rounds: rounds.Rows[oracle]{
			observe: {Round: rounds.Different(1, func(context.Context, oracle) (int, error) { return 1, nil },
				func(o oracle, said []rounds.Said[int]) oracle {
					o.Prices = map[rounds.Agent]int{}
					for _, s := range said {
						o.Prices[s.Agent] = s.Value
					}
					return o
				}), On: rounds.On{rounds.Done: estimate, rounds.Timeout: observe}},
			estimate: {Round: rounds.Same(func(context.Context, oracle) (int, error) { return 1, nil },
				func(o oracle, cents int) oracle {
					o.Estimate, o.Total = cents, o.Total+1
					return o
				}), On: rounds.On{rounds.Done: finished, rounds.None: observe, rounds.NoMajority: observe,
				rounds.Timeout: estimate}},
			finished: {Round: rounds.Final[oracle]()},
		},
	}
}

var four = []rounds.Agent{"a", "b", "c", "d"}

// player steps a machine through blocks a second apart.
type player[S any] struct {
	t      *testing.T
	m      rounds.Machine[S]
	st     rounds.State[S]
	height uint64
	now    time.Time
	report rounds.Report
}

func play[S any](t *testing.T, service *rounds.Service[S]) *player[S] {
	require.Empty(t, service.Check())
	agents, err := rounds.NewAgents(0, four...)
	require.NoError(t, err)
	m := rounds.Machine[S]{Service: service, Agents: agents}
	return &player[S]{t: t, m: m, st: m.Service.Begin(agents), now: time.Unix(1000, 0).UTC()}
}

func (p *player[S]) block(change func(*rounds.Block), payloads ...rounds.Payload) {
	p.height++
	p.now = p.now.Add(time.Second)
	b := rounds.Block{Place: rounds.Place{Height: p.height}, Time: p.now, Payloads: payloads}
	if change != nil {
		change(&b)
		p.now = b.Time
	}

	before := encoded(p.t, p.st)
	next, report := p.m.Step(p.st, b)
	require.Equal(p.t, before, encoded(p.t, p.st), "Step changed the state that it was given")
	p.st, p.report = next, report
}

func (p *player[S]) say(agent rounds.Agent, payload string) rounds.Payload {
	return rounds.Payload{Agent: agent, Label: p.m.Service.LabelOf(p.st.Round), Count: p.st.Count,
		Bytes: []byte(payload)}
}

func (p *player[S]) all(payload string) (out []rounds.Payload) {
	for _, a := range four {
		out = append(out, p.say(a, payload))
	}
	return out
}

func encoded(t *testing.T, v any) string {
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// The oracle's rounds in their order, with a period after them. Checklist 22.
func service() *rounds.Service[oracle] {
	return rounds.Compose("OracleService", rounds.Links{
		rounds.Registered: observe, finished: rounds.ResetAndPause,
		rounds.PeriodEnded: observe, rounds.PeriodFailed: rounds.Registration,
	}, rounds.RegistrationApp[oracle](), oracleApp(), rounds.ResetApp[oracle](rounds.Every(2),
		rounds.Pause(10*time.Second)))
}

func TestAPeriod(t *testing.T) {
	p := play(t, service())
	p.block(nil, p.all(`""`)...)
	require.Equal(t, observe, p.st.Round)
	require.Equal(t, four, p.st.Participants)

	for period := range 4 {
		p.block(nil, p.say("a", "3"), p.say("b", "4"), p.say("c", "5"))
		require.Equal(t, observe, p.st.Round, "k = 1: one block more")
		p.block(nil, p.say("d", "6"))
		require.Equal(t, estimate, p.st.Round)
		require.Equal(t, map[rounds.Agent]int{"a": 3, "b": 4, "c": 5, "d": 6}, p.st.App.Prices)

		p.block(nil, p.all("4")...)
		require.Equal(t, rounds.ResetAndPause, p.st.Round)
		require.Equal(t, period%2 == 1, p.report.Ended[0].Reset, "each second period resets the chain")

		p.block(nil, p.all(fmt.Sprint(period))...)
		require.Equal(t, oracle{Total: period + 1}, p.st.App, "Keep says what goes on")
		require.EqualValues(t, period+1, p.st.Period)
	}
}

// NO_MAJORITY of different counts, and the timeout, lead to the error state. Checklist 22.
func TestAPeriodThatFails(t *testing.T) {
	for _, timeout := range []bool{false, true} {
		p := play(t, service())
		p.block(nil, p.all(`""`)...)
		p.block(nil, p.all("3")...)
		p.block(nil)
		p.block(nil, p.all("4")...)
		require.Equal(t, rounds.ResetAndPause, p.st.Round)

		if timeout {
			p.block(func(b *rounds.Block) { b.Time = b.Time.Add(15 * time.Second) })
		} else {
			p.block(nil, p.say("a", "0"), p.say("b", "0"), p.say("c", "1"), p.say("d", "1"))
		}
		require.Equal(t, rounds.Registration, p.st.Round)
		require.Zero(t, p.st.Period)
	}
}

// A later registration stays open for ten blocks after t agreed, and all who spoke take part. Split
// values end it. Checklist 67.
func TestALaterRegistration(t *testing.T) {
	p := play(t, rounds.Compose("Service", rounds.Links{rounds.Registered: observe, finished: rounds.Registration},
		rounds.RegistrationApp[oracle](), oracleApp()))
	p.block(nil, p.all(`""`)...)
	p.block(nil, p.all("3")...)
	p.block(nil)
	p.block(nil, p.all("4")...)
	require.Equal(t, rounds.Registration, p.st.Round)

	p.block(nil, p.say("a", `"x"`), p.say("b", `"y"`), p.say("c", `"x"`), p.say("d", `"y"`))
	require.Equal(t, rounds.NoMajority, p.report.Ended[0].Event)
	require.Equal(t, rounds.Registration, p.st.Round)

	p.block(nil, p.say("a", `"x"`), p.say("b", `"x"`), p.say("c", `"x"`))
	for range 9 {
		p.block(nil)
		require.Equal(t, rounds.Registration, p.st.Round)
	}
	p.block(nil)
	require.Equal(t, observe, p.st.Round)
	require.Equal(t, []rounds.Agent{"a", "b", "c"}, p.st.Participants)

	p.block(nil, p.say("d", "3"))
	require.Equal(t, rounds.Stranger, p.report.Refusals[0].Reason)
}

// The first round times out; timeouts run on block time; the earliest fires, one in a block.
// Checklist 24 and 60.
func TestTimeouts(t *testing.T) {
	p := play(t, rounds.Compose("OracleService", nil, oracleApp()))
	p.block(nil)
	d, armed := p.st.Deadline()
	require.True(t, armed)
	require.Equal(t, rounds.Deadline{Event: rounds.Timeout, At: p.now.Add(7 * time.Second)}, d)

	p.block(func(b *rounds.Block) { b.Time = d.At })
	require.Empty(t, p.report.Ended, "a deadline fires when it has passed")

	p.block(func(b *rounds.Block) { b.Time = d.At.Add(1) }, p.say("a", "3"))
	require.Equal(t, []rounds.Ended{{Round: observe, Count: 1, Event: rounds.Timeout, Next: observe,
		Label: "OracleAbciApp"}},
		p.report.Ended)
	require.Equal(t, rounds.Late, p.report.Refusals[0].Reason, "time advances before payloads")
	require.EqualValues(t, 2, p.st.Count)

	before := encoded(t, p.st)
	b := rounds.Block{Place: p.st.Fired, Time: p.now.Add(time.Hour)}
	require.Equal(t, before, encoded(t, p.m.Advance(p.st, b, &rounds.Report{})), "a second Advance changes nothing")
}

// Ties of deadlines go by the event's name.
func TestTiesOfDeadlines(t *testing.T) {
	app := rounds.Table[oracle]{
		Label: "TieAbciApp", Start: observe,
		Timeouts: rounds.Timeouts{"Z": time.Second, "B": time.Second, "A": 2 * time.Second},
		Rounds: rounds.Rows[oracle]{
			observe: {Round: rounds.Keeper(func(oracle) rounds.Agent {
				return "a"
			}, nil, func(o oracle, _ int) oracle { return o }),
				On: rounds.On{"Z": finished, "B": finished, "A": finished, rounds.Done: finished,
					rounds.Fail: finished}},
			finished: {Round: rounds.Final[oracle]()},
		},
	}
	for range 20 { // map order
		p := play(t, rounds.Compose("S", nil, app))
		p.block(nil)
		p.block(func(b *rounds.Block) { b.Time = b.Time.Add(time.Hour) })
		require.EqualValues(t, "B", p.report.Ended[0].Event)
	}
}

// afterAReset plays a reset of 20 s in a round with a timeout of 7 s, and returns what its second
// block has ended, and by how much the deadline has moved. change may change that block.
func afterAReset(t *testing.T, change func(*rounds.Block)) (p *player[oracle], ended []rounds.Ended,
	moved time.Duration,
) {
	t.Helper()
	p = play(t, rounds.Compose("OracleService", nil, oracleApp()))
	p.block(nil)
	d, _ := p.st.Deadline()
	f := p.now

	p.block(func(b *rounds.Block) {
		b.Place = rounds.Place{Epoch: 1, Height: 23}
		b.Time, b.Resumed = f.Add(20*time.Second), f
		change(b)
	})
	after, _ := p.st.Deadline()
	return p, p.report.Ended, after.At.Sub(d.At)
}

// A reset that takes 20 s fires no timeout of 7 s: the deadlines move by what the reset took, once.
// The seeded mistake, deadlines that do not move, is seen by the same history. Item 46.
func TestAResetMovesDeadlines(t *testing.T) {
	_, ended, _ := afterAReset(t, func(b *rounds.Block) { b.Resumed = time.Time{} })
	require.Len(t, ended, 1, "the seeded mistake")
	require.Equal(t, rounds.Timeout, ended[0].Event)

	p, ended, moved := afterAReset(t, func(*rounds.Block) {})
	require.Empty(t, ended)
	require.Equal(t, 20*time.Second, moved)
	f := p.now.Add(-20 * time.Second)

	again := p.m.Advance(p.st, rounds.Block{Place: rounds.Place{Epoch: 1, Height: 23}, Time: f.Add(20 * time.Second),
		Resumed: f},
		&rounds.Report{})
	require.Equal(t, encoded(t, p.st), encoded(t, again))
}

// A block in which nothing happened changes nothing. Checklist 71.
func TestAnIdleBlockWritesNothing(t *testing.T) {
	p := play(t, service())
	p.block(nil)
	before := encoded(t, p.st)
	for range 5 {
		p.block(nil)
		require.Equal(t, before, encoded(t, p.st))
	}
}

// Counts never repeat, and a refusal that proves a fault is an offence. Checklist 61, 68.
func TestOffences(t *testing.T) {
	p := play(t, rounds.Compose("OracleService", nil, oracleApp()))
	p.block(nil, p.say("a", "3"), p.say("a", "4"), p.say("b", "[1]"), p.say("x", "3"))
	require.Equal(t, map[rounds.Agent]rounds.Offences{"a": {Faults: 1}, "b": {Faults: 1}}, p.st.Offences)

	early := p.say("c", "3")
	early.Count = 9
	p.block(func(b *rounds.Block) { b.DoubleSigned = []rounds.Agent{"d", "d", "x"} }, early, early, p.say("a", "5"))
	require.Equal(t, rounds.Offences{Faults: 2}, p.st.Offences["c"])
	require.Equal(t, rounds.Offences{DoubleSigns: 2}, p.st.Offences["d"])
	require.Equal(t, rounds.Offences{Faults: 2}, p.st.Offences["a"], "a second offence counts")

	absent := func(b *rounds.Block) { b.Absent = []rounds.Agent{"b"} }
	p.block(absent, p.say("b", "3"), p.say("c", "3"))
	require.Zero(t, p.st.Offences["b"].Downtime, "no round has ended")
	p.block(absent)
	require.EqualValues(t, 1, p.st.Offences["b"].Downtime)
	require.NotContains(t, p.st.Offences, rounds.Agent("x"))
}

// A function of the app that panics breaks its round only, and only a timeout ends it.
func TestAPanicBreaksTheRound(t *testing.T) {
	app := oracleApp()
	row := app.Rounds[estimate]
	row.Round = rounds.Same(func(context.Context, oracle) (int, error) { return 1, nil }, func(o oracle, n int) oracle {
		o.Estimate = 7 //nolint:govet // what it wrote must be lost
		panic("planted")
	})
	app.Rounds[estimate] = row

	p := play(t, rounds.Compose("OracleService", nil, app))
	p.block(nil, p.all("3")...)
	p.block(nil)
	p.block(nil, p.say("a", "4"), p.say("b", "4"), p.say("c", "4"))
	require.Len(t, p.report.Failed, 1)
	require.Equal(t, estimate, p.report.Failed[0].Round)
	require.Equal(t, "planted", p.report.Failed[0].Panic)
	require.Contains(t, string(p.report.Failed[0].Stack), "step_test.go")
	require.Zero(t, p.st.App.Estimate)

	p.block(nil, p.say("d", "4"))
	require.Equal(t, rounds.Broken, p.report.Refusals[0].Reason)
	require.Empty(t, p.report.Failed, "it is not tried again")
	require.NotContains(t, p.st.Offences, rounds.Agent("d"))

	p.block(func(b *rounds.Block) { b.Time = b.Time.Add(time.Minute) })
	require.Equal(t, rounds.Timeout, p.report.Ended[0].Event)
	require.False(t, p.st.Ballot.Broken)
}

// A function of the app that panics at a payload breaks the round from there on. It is not called
// again for the next payload.
func TestAPanicAtAPayloadBreaksTheRound(t *testing.T) {
	app := oracleApp()
	row := app.Rounds[estimate]
	asked := 0
	row.Round = rounds.Keeper(func(oracle) rounds.Agent { asked++; panic("planted") },
		func(context.Context, oracle) (int, error) { return 1, nil }, func(o oracle, n int) oracle { return o })
	row.On = rounds.On{rounds.Done: finished, rounds.Fail: observe, rounds.Timeout: estimate}
	app.Rounds[estimate] = row

	p := play(t, rounds.Compose("OracleService", nil, app))
	p.block(nil, p.all("3")...)
	p.block(nil)
	require.Equal(t, estimate, p.st.Round)
	asked = 0
	p.block(nil, p.say("a", "4"), p.say("b", "4"), p.say("c", "4"))
	require.Len(t, p.report.Failed, 1)
	require.Equal(t, 1, asked)
	require.Len(t, p.report.Refusals, 3)
	require.True(t, p.st.Ballot.Broken)
	require.Empty(t, p.st.Offences)
}

// beside is the oracle with the three kinds of background rounds.
func beside() *rounds.Service[oracle] {
	stop := rounds.Termination(func(context.Context, oracle) (string, error) { return "", nil },
		func(o oracle, _ string) oracle { return o })
	tally := rounds.Background[oracle]{Label: "Tally", Kind: rounds.EverRunning, Round: rounds.Same(
		func(context.Context, oracle) (int, error) { return 1, nil }, func(o oracle, n int) oracle {
			o.Total += n
			return o
		})}
	pause := rounds.Background[oracle]{Label: "Pause", Kind: rounds.Normal, On: rounds.Done,
		Round: rounds.Voting[oracle](nil, nil),
		App: &rounds.Table[oracle]{Label: "PauseAbciApp", Start: "paused", Rounds: rounds.Rows[oracle]{
			"paused": {Round: rounds.Voting[oracle](nil, nil),
				On: rounds.On{rounds.Done: "unpaused", rounds.Negative: "paused",
					rounds.None: "paused", rounds.NoMajority: "paused"}},
			"unpaused": {Round: rounds.Final[oracle]()},
		}}}
	return rounds.Compose("OracleService", nil, oracleApp()).Beside(pause, tally, stop)
}

func side(count uint64, label, payload string, agents ...rounds.Agent) (out []rounds.Payload) {
	for _, a := range agents {
		out = append(out, rounds.Payload{Agent: a, Label: label, Count: count, Bytes: []byte(payload)})
	}
	return out
}

// Background rounds: kinds, priority, a count of their own, and the return to the interrupted round
// with its votes. Checklist 70.
func TestBackgroundRounds(t *testing.T) {
	p := play(t, beside())
	p.block(nil, p.say("a", "3"), p.say("b", "3"))
	p.block(nil, side(1, "Tally", "5", "a", "b", "c")...)
	require.Equal(t, 5, p.st.App.Total)
	require.Equal(t, observe, p.st.Round, "an ever running round leaves the current one alone")

	p.block(nil, side(1, "Tally", "5", "a")...)
	require.Equal(t, rounds.Late, p.report.Refusals[0].Reason, "it has a count of its own")

	left, _ := p.st.Deadline()
	p.block(nil, append(side(1, "Pause", `"yes"`, "a", "b", "c"), p.say("c", "3"))...)
	require.EqualValues(t, "paused", p.st.Round)
	require.EqualValues(t, 2, p.st.Count)
	require.Empty(t, p.st.Deadlines)
	interrupted := p.now

	p.block(func(b *rounds.Block) { b.Time = b.Time.Add(time.Hour) })
	require.EqualValues(t, "paused", p.st.Round)

	p.block(nil, p.all(`"yes"`)...)
	require.Equal(t, observe, p.st.Round)
	require.EqualValues(t, 1, p.st.Count, "the interrupted round goes on")
	require.Len(t, p.st.Ballot.Votes, 3)
	d, _ := p.st.Deadline()
	require.Equal(t, left.At.Add(p.now.Sub(interrupted)), d.At)

	p.block(nil)
	p.block(nil)
	require.Equal(t, estimate, p.st.Round)
	require.EqualValues(t, 3, p.st.Count, "counts never repeat")

	// Both start events in one block: terminating goes first.
	p.block(nil, append(side(2, "Pause", `"yes"`, "a", "b", "c"),
		side(1, "TerminationAbciApp", `"over"`, "a", "b", "c")...)...)
	require.Equal(t, rounds.Terminated, p.st.Round)
	p.block(nil, p.say("a", "3"))
	require.Equal(t, rounds.Late, p.report.Refusals[0].Reason)
	require.Equal(t, rounds.Terminated, p.st.Round)
}

// Payloads are bound to their chain, app and count; what is no payload is refused with a reason.
func TestPayloads(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	keys := func(a rounds.Agent) (ed25519.PublicKey, bool) { return public, a == "a" }
	p := rounds.Payload{Agent: "a", Label: "OracleAbciApp", Count: 300, Bytes: []byte("3")}
	body := p.Sign("chain", private)

	got, err := rounds.Open("chain", body, keys)
	require.NoError(t, err)
	require.Equal(t, p, got)

	_, err = rounds.Open("other", body, keys)
	require.ErrorIs(t, err, rounds.ErrPayload)

	for i := range body {
		for bit := range 8 {
			flipped := bytes.Clone(body)
			flipped[i] ^= 1 << bit
			_, err := rounds.Open("chain", flipped, keys)
			require.ErrorIs(t, err, rounds.ErrPayload, "bit %d of byte %d", bit, i)
		}
		_, err := rounds.Open("chain", body[:i], keys)
		require.ErrorIs(t, err, rounds.ErrPayload)
	}

	other := p
	other.Bytes = []byte("4")
	require.Equal(t, p.Nonce("chain"), other.Nonce("chain"))
	other.Count++
	require.NotEqual(t, p.Nonce("chain"), other.Nonce("chain"))
	require.NotEqual(t, p.Nonce("chain"), p.Nonce("other"))
}

func FuzzOpen(f *testing.F) {
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(f, err)
	keys := func(rounds.Agent) (ed25519.PublicKey, bool) { return public, true }
	f.Add(rounds.Payload{Agent: "a", Label: "OracleAbciApp", Count: 3}.Sign("c", private))

	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := rounds.Open("c", body, keys)
		if err != nil {
			require.ErrorIs(t, err, rounds.ErrPayload)
			return
		}
		require.Equal(t, body, p.Sign("c", private))
	})
}

// The choice of a keeper depends on the agreed seed and on the set of agents only, and passes over
// the blacklist while it leaves somebody.
func TestChooseKeeper(t *testing.T) {
	require.Equal(t, rounds.ChooseKeeper([]rounds.Agent{"b", "a", "c"}, []byte("s"), nil),
		rounds.ChooseKeeper([]rounds.Agent{"c", "b", "a"}, []byte("s"), nil))

	seen := map[rounds.Agent]bool{}
	for i := range 200 {
		seen[rounds.ChooseKeeper(four, []byte(fmt.Sprint(i)), []rounds.Agent{"b"})] = true
	}
	require.Equal(t, map[rounds.Agent]bool{"a": true, "c": true, "d": true}, seen)
	require.NotEmpty(t, rounds.ChooseKeeper(four, nil, four))
	require.Empty(t, rounds.ChooseKeeper(nil, nil, nil))
}

func TestAgents(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 2, 3: 3, 4: 3, 5: 4, 6: 5, 7: 5, 10: 7} {
		require.Equal(t, want, rounds.Quorum(n), "n = %d", n)
	}
	for _, bad := range []struct {
		t     int
		names []rounds.Agent
	}{{0, nil}, {0, []rounds.Agent{""}}, {0, []rounds.Agent{"a", "a"}}, {2, four}, {5, four}, {-1, four}} {
		_, err := rounds.NewAgents(bad.t, bad.names...)
		require.Error(t, err, "%+v", bad)
	}
}
