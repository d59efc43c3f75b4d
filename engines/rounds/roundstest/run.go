package roundstest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/coppice-go/coppice/engines/rounds"
)

// Options are the circumstances of a run. The zero value of a rate means never.
type Options struct {
	Agents    int           // 4 if it is 0
	Threshold int           // the smallest safe one if it is 0
	Blocks    int           // 200 if it is 0
	BlockTime time.Duration // one second if it is 0
	Seed      uint64        // a random one if it is 0; a failure prints it

	Delay int     // the largest number of blocks until a payload reaches a block
	Loss  float64 // the share of payloads that are lost; their agents send again
	Kills float64 // the share of blocks in which one agent is killed
	Down  int     // the largest number of blocks until a killed agent is back

	// Silent agents never speak, and the first of the agents are silent.
	Silent int
}

// Result is what a run did.
type Result[S any] struct {
	State  rounds.State[S]
	Agents rounds.Agents
	Blocks []rounds.Block
	Ended  []rounds.Ended
	Kills  int
	Resent int // payloads that were sent again, after a loss or a kill
}

// resendAfter is the number of blocks after which an agent sends a payload again that no block has.
const resendAfter = 3

type agent struct {
	name  rounds.Agent
	down  int // blocks until it is back
	count uint64
	said  []byte // what it sends for count
	since int    // the block in which it last sent it
}

type letter struct {
	due     int
	payload rounds.Payload
}

type simulation[S any] struct {
	t       testing.TB
	o       Options
	r       *rand.Rand
	m       rounds.Machine[S]
	agents  []*agent
	letters []letter
	now     time.Time
	entered time.Time // when the current round began, in block time
	states  []string  // after each block
	result  Result[S]
}

// Run plays a service and fails t if
//   - the service has a fault, or a function of an app panics,
//   - an agent's second payload for the same count reaches a block and differs from the first,
//   - a block, played again, gives another state.
//
// The behaviours of the agents are called with the state as the chain has it; an error counts as a
// kill of the agent.
func Run[S any](t testing.TB, service *rounds.Service[S], o Options) Result[S] {
	t.Helper()
	for _, f := range service.Check() {
		t.Fatalf("roundstest: %v", f)
	}

	s := start(t, service, o)
	for height := 1; height <= s.o.Blocks; height++ {
		s.block(height)
	}

	s.replay()
	return s.result
}

func start[S any](t testing.TB, service *rounds.Service[S], o Options) *simulation[S] {
	t.Helper()
	if o.Agents == 0 {
		o.Agents = 4
	}
	if o.Blocks == 0 {
		o.Blocks = 200
	}
	if o.BlockTime == 0 {
		o.BlockTime = time.Second
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}

	s := &simulation[S]{t: t, o: o, r: rand.New(rand.NewPCG(o.Seed, 0)), now: time.Unix(1_000_000, 0).UTC()}
	var names []rounds.Agent
	for i := range o.Agents {
		names = append(names, rounds.Agent(fmt.Sprintf("agent%d", i)))
		s.agents = append(s.agents, &agent{name: names[i]})
	}

	agents, err := rounds.NewAgents(o.Threshold, names...)
	if err != nil {
		t.Fatalf("roundstest: %v", err)
	}

	s.m = rounds.Machine[S]{Service: service, Agents: agents}
	s.result.Agents, s.result.State = agents, service.Begin(agents)
	s.entered = s.now

	return s
}

// block makes one block: agents are killed or come back, the others speak, and what is due is
// decided.
func (s *simulation[S]) block(height int) {
	s.t.Helper()
	s.now = s.now.Add(s.o.BlockTime)

	if s.r.Float64() < s.o.Kills {
		s.kill(s.agents[s.r.IntN(len(s.agents))])
	}

	for _, a := range s.agents[s.o.Silent:] {
		if a.down > 0 {
			a.down--
			continue
		}
		s.speak(a, height)
	}

	b := rounds.Block{Place: rounds.Place{Height: uint64(height)}, Time: s.now, Payloads: s.due(height)}
	before := s.result.State.Count
	var report rounds.Report
	s.result.State, report = s.m.Step(s.result.State, b)
	s.result.Blocks = append(s.result.Blocks, b)
	s.states = append(s.states, encoded(s.t, s.result.State))
	s.result.Ended = append(s.result.Ended, report.Ended...)

	if s.result.State.Count != before {
		s.entered = s.now
	}
	for _, f := range report.Failed {
		s.t.Fatalf("roundstest: seed %d, block %d: round %s%s panicked: %s\n%s", s.o.Seed, height, f.Round, f.Label,
			f.Panic, f.Stack)
	}
	for _, refusal := range report.Refusals {
		if refusal.Reason != rounds.Late && refusal.Reason != rounds.Stranger {
			s.t.Fatalf("roundstest: seed %d, block %d: an honest agent was refused: %v", s.o.Seed, height, refusal)
		}
	}
}

// kill takes an agent's memory, and the agent with it for some blocks.
func (s *simulation[S]) kill(a *agent) {
	s.result.Kills++
	a.count, a.said = 0, nil
	a.down = 1 + s.r.IntN(s.o.Down+1)
}

// speak lets an agent do what its round asks for. An agent that came back finds in the chain what
// it has said, and says nothing twice.
func (s *simulation[S]) speak(a *agent, height int) {
	st := s.result.State
	if spoke(st, a.name) || s.underWay(a.name, st.Count) {
		return
	}

	if a.count != st.Count {
		said, ok := s.act(a)
		if !ok {
			return
		}
		a.count, a.said = st.Count, said
	} else if height-a.since < resendAfter {
		return
	} else {
		s.result.Resent++
	}

	a.since = height
	if s.r.Float64() < s.o.Loss {
		return
	}
	s.letters = append(s.letters, letter{height + s.r.IntN(s.o.Delay+1), rounds.Payload{Agent: a.name,
		Label: s.m.Service.LabelOf(st.Round), Count: st.Count, Bytes: a.said}})
}

// underWay reports whether what the agent said for count will still reach a block.
func (s *simulation[S]) underWay(a rounds.Agent, count uint64) bool {
	return slices.ContainsFunc(s.letters, func(l letter) bool {
		return l.payload.Agent == a && l.payload.Count == count
	})
}

func spoke[S any](st rounds.State[S], a rounds.Agent) bool {
	for _, v := range st.Ballot.Votes {
		if v.Agent == a {
			return true
		}
	}
	return false
}

// act calls the behaviour of the current round; ok is false if the agent has nothing to say.
func (s *simulation[S]) act(a *agent) (payload []byte, ok bool) {
	st := s.result.State
	round, _ := s.m.Service.Round(st.Round)
	if keeper, one := rounds.KeeperOf(round, st.App); one && keeper != a.name {
		return nil, false
	}

	if period, has := s.m.Service.Period(); has && st.Round == rounds.ResetAndPause {
		if s.now.Sub(s.entered) < period.Pause {
			return nil, false
		}
		return fmt.Append(nil, st.Period), true
	}

	behaviour, acts := round.(rounds.Behaviour[S])
	if !acts {
		return nil, false
	}

	payload, err := behaviour.Act(WithAgent(context.Background(), a.name), st.App)
	if err != nil {
		s.kill(a)
		return nil, false
	}
	return payload, true
}

type agentKey struct{}

// WithAgent returns a context that names the agent for which a behaviour acts.
func WithAgent(ctx context.Context, a rounds.Agent) context.Context {
	return context.WithValue(ctx, agentKey{}, a)
}

// AgentOf returns the agent for which a behaviour acts in a simulation.
func AgentOf(ctx context.Context) rounds.Agent {
	a, _ := ctx.Value(agentKey{}).(rounds.Agent)
	return a
}

// due takes the payloads that reach a block, in random order.
func (s *simulation[S]) due(height int) (out []rounds.Payload) {
	rest := s.letters[:0]
	for _, l := range s.letters {
		if l.due <= height {
			out = append(out, l.payload)
		} else {
			rest = append(rest, l)
		}
	}

	s.letters = rest
	s.r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// replay plays the blocks again, as a node does that was killed, and compares the state after each:
// a difference that a later end writes over has made the nodes disagree before.
func (s *simulation[S]) replay() {
	s.t.Helper()
	said := map[string][]byte{}
	st := s.m.Service.Begin(s.m.Agents)
	for i, b := range s.result.Blocks {
		for _, p := range b.Payloads {
			key := fmt.Sprint(p.Agent, p.Count)
			if first, twice := said[key]; twice && !bytes.Equal(first, p.Bytes) {
				s.t.Errorf("roundstest: seed %d, block %d: %s said %q and %q for count %d", s.o.Seed, b.Height, p.Agent,
					first, p.Bytes,
					p.Count)
			}
			said[key] = p.Bytes
		}

		st, _ = s.m.Step(decoded[S](s.t, st), b) // a node that died has what it stored
		if got := encoded(s.t, st); got != s.states[i] {
			s.t.Errorf("roundstest: seed %d, block %d: played again, it gives another state:\n%s\n%s", s.o.Seed,
				b.Height, got, s.states[i])
			return
		}
	}
}

func encoded[S any](t testing.TB, st rounds.State[S]) string {
	b, err := json.Marshal(st)
	if err != nil {
		t.Fatalf("roundstest: the state does not encode: %v", err)
	}
	return string(b)
}

func decoded[S any](t testing.TB, st rounds.State[S]) (out rounds.State[S]) {
	if err := json.Unmarshal([]byte(encoded(t, st)), &out); err != nil {
		t.Fatalf("roundstest: the state does not decode: %v", err)
	}
	return out
}
