package rounds_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/rounds"
)

// The model is the specification's table of round types, written a second time: it keeps the whole
// history of a round and judges it anew after every block, in sets and counts, without the code
// under test.

type sent struct {
	agent   rounds.Agent
	payload string
}

type modelRound struct {
	kind         string
	registered   []rounds.Agent
	participants []rounds.Agent
	rejoin       bool
	t, k         int
	keeper       rounds.Agent

	took    []sent
	reached int // blocks that ended with t agents heard, 0 before
}

func (m *modelRound) may() []rounds.Agent {
	if m.rejoin {
		return m.registered
	}
	return m.participants
}

func (m *modelRound) refuse(s sent) string {
	switch {
	case !slices.Contains(m.registered, s.agent), !slices.Contains(m.may(), s.agent):
		return "stranger"
	case slices.ContainsFunc(m.took, func(o sent) bool { return o.agent == s.agent }):
		return "spoken"
	case m.kind == "keeper" && s.agent != m.keeper:
		return "not keeper"
	case m.kind == "final":
		return "late"
	case m.kind == "reset" && !isInteger(s.payload), m.kind == "reset" && s.payload[0] == '-',
		m.kind == "startup" && s.payload == "":
		return "malformed"
	case m.isText() && s.payload != "" && !isText(s.payload):
		return "malformed"
	case m.kind == "voting" && !slices.Contains([]string{`"yes"`, `"no"`, `"abstain"`}, s.payload),
		m.kind == "until_all" && s.payload == "",
		m.kind != "voting" && !m.isText() && s.payload != "" && !isInteger(s.payload):
		return "malformed"
	case (m.kind == "until_all" || m.kind == "startup") && len(m.took) > 0 && m.took[0].payload != s.payload:
		return "differs"
	}
	m.took = append(m.took, s)
	return ""
}

// isText reports whether the round's payloads are strings.
func (m *modelRound) isText() bool {
	return m.kind == "startup" || m.kind == "registration" || m.kind == "select"
}

// isText says what the canonical form of a string of letters and digits is.
func isText(s string) bool {
	return len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' && !strings.ContainsAny(s[1:len(s)-1], `"\ <>&`)
}

// isInteger says what the canonical form of an int is, without the decoder under test.
func isInteger(s string) bool {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || len(digits) > 18 || strings.Trim(digits, "0123456789") != "" {
		return false
	}
	return s == "0" || digits[0] != '0'
}

func (m *modelRound) end() string {
	sizes := map[string]int{}
	for _, s := range m.took {
		sizes[s.payload]++
	}
	most := 0
	for _, n := range sizes {
		most = max(most, n)
	}
	silent := len(m.may()) - len(m.took)
	agreed := func(p string) bool { return sizes[p] >= m.t }

	switch m.kind {
	case "same", "select", "reset":
		switch {
		case agreed(""):
			return "NONE"
		case most >= m.t:
			return "DONE"
		case silent+most < m.t:
			return "NO_MAJORITY"
		}
	case "voting":
		switch {
		case agreed(`"yes"`):
			return "DONE"
		case agreed(`"no"`):
			return "NEGATIVE"
		case agreed(`"abstain"`):
			return "NONE"
		case silent+most < m.t:
			return "NO_MAJORITY"
		}
	case "until_all":
		if len(m.took) > 0 && silent == 0 {
			return "DONE"
		}
	case "startup":
		if silent == 0 {
			return "DONE"
		}
	case "registration":
		if silent+most < m.t {
			return "NO_MAJORITY"
		}
		if most >= m.t {
			m.reached++
		}
		if m.reached > 10 {
			return "DONE"
		}
	case "different_until_all":
		if len(m.took) >= m.t && silent == 0 {
			return "DONE"
		}
	case "keeper":
		if len(m.took) > 0 {
			return map[bool]string{true: "FAIL", false: "DONE"}[m.took[0].payload == ""]
		}
	case "different", "non_empty":
		if len(m.took) >= m.t {
			m.reached++
		}
		if m.reached > m.k {
			if m.kind == "non_empty" && sizes[""] == len(m.took) {
				return "NONE"
			}
			return "DONE"
		}
	}
	return ""
}

type tally struct {
	Said []string
}

func number(context.Context, tally) (int, error) { return 0, nil }

func one(s tally, p int) tally { return tally{Said: append(s.Said, fmt.Sprint(p))} }

func many(s tally, all []rounds.Said[int]) tally {
	for _, v := range all {
		s.Said = append(s.Said, fmt.Sprint(v.Agent, v.Value, v.Empty))
	}
	return s
}

func roundOf(m modelRound) rounds.Round[tally] {
	var r rounds.Round[tally]
	switch m.kind {
	case "same":
		r = rounds.Same(number, one)
	case "until_all":
		r = rounds.SameUntilAll(number, one)
	case "different":
		r = rounds.Different(m.k, number, many)
	case "non_empty":
		r = rounds.NonEmpty(m.k, number, many)
	case "different_until_all":
		r = rounds.DifferentUntilAll(number, many)
	case "keeper":
		r = rounds.Keeper(func(tally) rounds.Agent { return m.keeper }, number, one)
	case "voting":
		r = rounds.Voting[tally](nil, nil)
	case "select":
		r = rounds.SelectKeeper(func(context.Context, tally) (string, error) { return "", nil }, nil,
			func(s tally, a rounds.Agent) tally { return tally{Said: append(s.Said, string(a))} })
	case "startup":
		return rounds.RegistrationApp[tally]("x").Rounds[rounds.RegistrationStartup].Round
	case "registration":
		return rounds.RegistrationApp[tally]("x").Rounds[rounds.Registration].Round
	case "reset":
		return rounds.ResetApp[tally]().Rounds[rounds.ResetAndPause].Round
	case "final":
		r = rounds.Final[tally]()
	}
	if m.rejoin {
		return rounds.Rejoin(r)
	}
	return r
}

var kinds = []string{"same", "until_all", "different", "non_empty", "different_until_all", "keeper", "voting", "final",
	"select", "startup", "registration", "reset"}

// rejoins reports whether a round of the kind takes all registered agents by itself.
func rejoins(kind string) bool { return kind == "startup" || kind == "registration" || kind == "reset" }

// table has the one round under test; each of its events leads back to it.
func table(r rounds.Round[tally]) rounds.Table[tally] {
	on := rounds.On{}
	for _, e := range r.Events() {
		on[e] = "vote"
	}
	return rounds.Table[tally]{Label: "TestAbciApp", Start: "vote",
		Rounds: rounds.Rows[tally]{"vote": {Round: r, On: on}}}
}

// values are payloads: right ones, empty ones, and each way of being malformed (checklist 62).
func values(kind string, r *rand.Rand) string {
	good := []string{"1", "2", "", "1", "7"}
	if kind == "voting" {
		good = []string{`"yes"`, `"no"`, `"abstain"`, `"yes"`}
	}
	if kind == "startup" || kind == "registration" || kind == "select" {
		good = []string{`"1"`, `"1"`, `"1"`, `"2"`, ""}
	}
	bad := []string{"[1]", "NaN", "1.0", `"maybe"`, "01", " 1", "1 ", "{}", "null!", "", strings.Repeat("9", 400)}
	if r.IntN(8) == 0 {
		return bad[r.IntN(len(bad))]
	}
	return good[r.IntN(len(good))]
}

// TestRoundsEqualTheModel plays random histories (duplicates, strangers, copies, wrong counts,
// agents that rejoin) on every round type and on the model: equal refusal by refusal and event by
// event. Checklist 58, 23 and 61 to 65.
func TestRoundsEqualTheModel(t *testing.T) {
	histories := 500
	if os.Getenv("COPPICE_SOAK") != "" {
		histories = 20_000
	}

	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			ends := map[string]int{}
			r := rand.New(rand.NewPCG(seed, 0))
			for i := range histories {
				if err := playHistory(kind, r, ends); err != nil {
					t.Fatalf("seed %d, history %d: %v", seed, i, err)
				}
			}

			t.Logf("seed %d: %v", seed, ends)
			for _, e := range roundOf(modelRound{kind: kind}).Events() {
				require.NotZero(t, ends[string(e)], "no history ended with %s", e)
			}
		})
	}
}

func playHistory(kind string, r *rand.Rand, ends map[string]int) error {
	n := 1 + r.IntN(7)
	var names []rounds.Agent
	for i := range n {
		names = append(names, rounds.Agent(fmt.Sprintf("agent%d", i)))
	}

	agents, err := rounds.NewAgents(rounds.Quorum(n)+r.IntN(n-rounds.Quorum(n)+1), names...)
	if err != nil {
		return err
	}

	fresh := modelRound{kind: kind, registered: names, participants: names, rejoin: r.IntN(3) == 0, t: agents.Threshold,
		k: r.IntN(3), keeper: names[r.IntN(n)]}
	fresh.rejoin = fresh.rejoin || rejoins(kind)
	if r.IntN(2) == 0 { // some registered agents do not take part
		fresh.participants = names[:1+r.IntN(n)]
	}

	m := rounds.Machine[tally]{Service: rounds.Compose("Test", nil, table(roundOf(fresh))), Agents: agents}
	st := m.Service.Begin(agents)
	st.Participants = fresh.participants

	model, count := fresh, uint64(1)
	heights := uint64(12)
	if kind == "registration" {
		heights = 30 // it stays open for ten blocks
	}
	for height := uint64(1); height < heights; height++ {
		b := rounds.Block{Place: rounds.Place{Height: height}}
		var want []string

		for range r.IntN(5) {
			s := sent{rounds.Agent(fmt.Sprintf("agent%d", r.IntN(n+1))), values(kind, r)}
			p := rounds.Payload{Agent: s.agent, Label: "TestAbciApp", Count: count, Bytes: []byte(s.payload)}
			switch r.IntN(12) {
			case 0:
				p.Count--
			case 1:
				p.Count++
			case 2:
				p.Label = "OtherAbciApp"
			}
			b.Payloads = append(b.Payloads, p)

			switch {
			case !slices.Contains(names, s.agent):
				want = append(want, "stranger")
			case p.Label != "TestAbciApp":
				want = append(want, "malformed")
			case p.Count > count:
				want = append(want, "early")
			case p.Count < count:
				want = append(want, "late")
			default:
				if reason := model.refuse(s); reason != "" {
					want = append(want, reason)
				}
			}
		}

		var report rounds.Report
		st, report = m.Step(st, b)

		var got []string
		for _, refusal := range report.Refusals {
			got = append(got, string(refusal.Reason))
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("height %d of %+v: refused %v, the model %v", height, fresh, got, want)
		}

		event, ended := model.end(), ""
		if len(report.Ended) > 0 {
			ended = string(report.Ended[0].Event)
		}
		if ended != event {
			return fmt.Errorf("height %d of %+v: ended with %q, the model with %q: %v", height, fresh, ended,
				event, model.took)
		}

		if event != "" {
			ends[event]++
			count++
			model = fresh
			if kind == "startup" || kind == "registration" { // it decides who takes part
				st.Participants = fresh.participants
			}
		}
		if len(report.Failed) > 0 {
			return fmt.Errorf("height %d: %v", height, report.Failed)
		}
	}

	return nil
}

// TestNoMajorityIsExact compares NoMajority with brute force for n = 1 to 7 agents and 4 values: it
// comes exactly when no continuation can agree any more. Checklist 59.
func TestNoMajorityIsExact(t *testing.T) {
	states := 0
	for n := 1; n <= 7; n++ {
		var names []rounds.Agent
		for i := range n {
			names = append(names, rounds.Agent(fmt.Sprint(i)))
		}
		agents, err := rounds.NewAgents(0, names...)
		require.NoError(t, err)
		round := rounds.Same(number, one)

		// choice[i] is the value of agent i, or 4 for one that has not spoken.
		choice := make([]int, n)
		for {
			states++
			p := rounds.Poll{Agents: agents, Participants: names}
			for i, v := range choice {
				if v < 4 {
					p.Votes = append(p.Votes, rounds.Vote{Agent: names[i], Payload: []byte(fmt.Sprint(v))})
				}
			}

			got := round.End(p, tally{}).Event == rounds.NoMajority
			require.Equal(t, !canAgree(slices.Clone(choice), agents.Threshold), got, "n %d, choices %v", n, choice)

			i := 0
			for ; i < n; i++ {
				if choice[i]++; choice[i] < 5 {
					break
				}
				choice[i] = 0
			}
			if i == n {
				break
			}
		}
	}

	require.Equal(t, 97_655, states)
}

// canAgree tries every continuation.
func canAgree(choice []int, t int) bool {
	i := slices.Index(choice, 4)
	if i < 0 {
		var sizes [4]int
		for _, v := range choice {
			sizes[v]++
		}
		return slices.Max(sizes[:]) >= t
	}

	for v := range 4 {
		choice[i] = v
		if canAgree(slices.Clone(choice), t) {
			return true
		}
	}
	return false
}
