package replicated

import (
	"cmp"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/rounds"
)

// ErrNoGenesis is the error of a backend that was not bound to a genesis.
var ErrNoGenesis = errors.New("the service of rounds is not bound to a chain (chain.BindBackends)")

// Service is the backend of a service before its chain is known.
type Service[S any] struct{ service *rounds.Service[S] }

// New returns the backend of a service. Only what ForGenesis returns executes anything.
func New[S any](service *rounds.Service[S]) Service[S] { return Service[S]{service} }

var _ chain.GenesisBackend = Service[int]{}

// Name implements chain.Backend.
func (Service[S]) Name() string { return rounds.Backend }

// Check implements chain.Backend.
func (Service[S]) Check([]byte) error { return ErrNoGenesis }

// Execute implements chain.Backend.
func (Service[S]) Execute(chain.View, []byte) ([]byte, error) { return nil, ErrNoGenesis }

// ForGenesis implements chain.GenesisBackend. It returns an error if the service has a fault
// (rounds.Service.Check), or if the genesis registers no agents for it.
func (s Service[S]) ForGenesis(g chain.Genesis) (chain.Backend, error) { return Bind(s.service, g) }

// Backend executes a service on one chain. It is safe for concurrent use.
type Backend[S any] struct {
	machine rounds.Machine[S]
	chainID string
	keys    map[rounds.Agent]ed25519.PublicKey
	agents  map[string]rounds.Agent // by the address of the agent's validator
	offset  uint64                  // of a reset
	prunes  bool                    // resets drop the history, and no more
	window  time.Duration           // of the chain
	most    int                     // payloads of one agent in a proposal
}

var (
	_ chain.BlockBackend = (*Backend[int])(nil)
	_ chain.Deferred     = (*Backend[int])(nil)
	_ chain.Bounded      = (*Backend[int])(nil)
	_ chain.Preparer     = (*Backend[int])(nil)
	_ chain.Sealed       = (*Backend[int])(nil)
	_ chain.Versioned    = (*Backend[int])(nil)
)

// Bind returns the backend of a service on the chain of a genesis.
func Bind[S any](service *rounds.Service[S], g chain.Genesis) (*Backend[S], error) {
	var faults []error
	for _, f := range service.Check() {
		faults = append(faults, f)
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("service %s: %w", service.Label(), errors.Join(faults...))
	}

	if len(g.Agents) == 0 {
		return nil, fmt.Errorf("%s: agents: none is registered for the service %s: want {name, key, validator} of each",
			chain.GenesisFile, service.Label())
	}

	b := &Backend[S]{chainID: g.ChainID, keys: map[rounds.Agent]ed25519.PublicKey{},
		agents: map[string]rounds.Agent{}}
	var names []rounds.Agent

	for _, a := range g.Agents {
		name := rounds.Agent(a.Name)
		names, b.keys[name] = append(names, name), a.Key
		validator, err := hex.DecodeString(a.Validator)
		if err != nil {
			return nil, fmt.Errorf("%s: agents: the validator of %s: %w", chain.GenesisFile, a.Name, err)
		}
		if len(validator) > 0 {
			b.agents[string(validator)] = name
		}
	}

	agents, err := rounds.NewAgents(int(g.AgentThreshold), names...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", chain.GenesisFile, err)
	}

	if b.window, err = time.ParseDuration(g.Limits.Window); err != nil || b.window <= 0 {
		return nil, fmt.Errorf("%s: limits.window: %q, want a positive duration", chain.GenesisFile, g.Limits.Window)
	}

	if g.Resets != nil {
		b.offset, b.prunes = g.Resets.Offset, g.Resets.Prunes()
	} else if p, ok := service.Period(); ok && p.Every > 0 {
		return nil, fmt.Errorf("%s: resets: missing, and the service %s resets the chain each %d periods",
			chain.GenesisFile, service.Label(), p.Every)
	}

	b.machine = rounds.Machine[S]{Service: service, Agents: agents}
	b.most = len(service.Backgrounds()) + 2
	return b, nil
}

// Name implements chain.Backend.
func (*Backend[S]) Name() string { return rounds.Backend }

// Versions implements chain.Versioned: they are the service's.
func (b *Backend[S]) Versions() (oldest, newest uint32) { return b.machine.Service.Versions() }

// NotBefore implements chain.Deferred: a tick waits for its deadline.
func (*Backend[S]) NotBefore(body []byte) (t time.Time, ok bool) {
	tick, ok := rounds.DecodeTick(body)
	return tick.After, ok
}

// maxWaiting is the number of payloads of one agent that may wait in a pool, and of ticks.
const maxWaiting = 16

// Sender implements chain.Bounded: an agent. Nobody signs ticks, so all of them have one sender. A
// proposer takes so many payloads as there may be rounds in progress, and one that came too late.
// Invented ticks may keep out the right one, but they bring blocks as it would.
func (b *Backend[S]) Sender(body []byte) (sender string, most chain.Bounds) {
	most = chain.Bounds{Waiting: maxWaiting, Block: b.most}
	if _, tick := rounds.DecodeTick(body); tick {
		return "nobody, whose are ticks", most
	}
	if agent := rounds.AgentOf(body); agent != "" {
		return "agent " + string(agent), most
	}
	return "", chain.Bounds{}
}

// Check implements chain.Backend. It refuses what no state can make right: a malformed body, an
// agent that is not registered, and a signature that is not the agent's. A node that lags accepts
// whatever a block accepts, because the count is judged by the block.
func (b *Backend[S]) Check(body []byte) error {
	_, err := b.Prepare(body)
	return err
}

// Prepare implements chain.Preparer, so that a signature is verified once and not at each step of a
// transaction. It returns the rounds.Tick or the rounds.Payload in the body.
func (b *Backend[S]) Prepare(body []byte) (any, error) {
	if t, ok := rounds.DecodeTick(body); ok {
		return t, nil
	}
	p, err := b.open(body)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// CheckSeal implements chain.Sealed: a payload is valid in one transaction only.
func (b *Backend[S]) CheckSeal(tx chain.Tx) error { return rounds.CheckSeal(b.chainID, b.window, tx) }

func (b *Backend[S]) open(body []byte) (rounds.Payload, error) {
	return rounds.Open(b.chainID, body, func(a rounds.Agent) (ed25519.PublicKey, bool) {
		key, ok := b.keys[a]
		return key, ok
	})
}

// Result is the result of a payload's transaction, as JSON.
type Result struct {
	Refused rounds.Reason `json:"refused,omitempty"` // empty: the payload counts

	// Failed names the rounds in which a function of the app has panicked.
	Failed []string `json:"failed,omitempty"`
}

// Execute implements chain.Backend. A payload that is refused is not an error, because a refusal
// may count as an offence, which is written.
func (b *Backend[S]) Execute(v chain.View, body []byte) ([]byte, error) {
	prepared, err := b.Prepare(body)
	if err != nil {
		return nil, err
	}
	return b.ExecutePrepared(v, prepared)
}

// ExecutePrepared implements chain.Preparer.
func (b *Backend[S]) ExecutePrepared(v chain.View, prepared any) ([]byte, error) {
	switch prepared := prepared.(type) {
	case rounds.Tick:
		return nil, b.tick(v, prepared)
	case rounds.Payload:
		return b.admit(v, prepared)
	default:
		return nil, fmt.Errorf("%T is not what Prepare returns", prepared)
	}
}

func (b *Backend[S]) admit(v chain.View, p rounds.Payload) ([]byte, error) {
	block, err := blockOf(v)
	if err != nil {
		return nil, err
	}

	report, err := b.change(v, block, func(st rounds.State[S], block rounds.Block, r *rounds.Report) rounds.State[S] {
		return b.machine.Admit(b.machine.Advance(st, block, r), p, r)
	})
	if err != nil {
		return nil, err
	}

	var result Result
	for _, refusal := range report.Refusals {
		result.Refused = refusal.Reason
	}
	for _, f := range report.Failed {
		result.Failed = append(result.Failed, nameOf(f))
	}
	return json.Marshal(result)
}

// tick changes nothing: the hook of its block does.
func (b *Backend[S]) tick(v chain.View, t rounds.Tick) error {
	block, err := blockOf(v)
	if err != nil {
		return err
	}
	st, _, err := b.read(v)
	if err != nil {
		return err
	}
	return st.Takes(t, block.Epoch, block.Time)
}

// EndBlock implements chain.BlockBackend.
func (b *Backend[S]) EndBlock(v chain.View, at chain.Block) error {
	block, err := blockOf(v)
	if err != nil {
		return err
	}
	block.Absent, block.DoubleSigned = b.agentsOf(at.Absent), b.agentsOf(at.DoubleSigned)

	report, err := b.change(v, block, func(st rounds.State[S], block rounds.Block, r *rounds.Report) rounds.State[S] {
		return b.machine.End(b.machine.Advance(st, block, r), block, r)
	})
	if err != nil || len(report.Failed) == 0 {
		return err
	}

	var failed []error
	for _, f := range report.Failed {
		failed = append(failed, fmt.Errorf("round %s: %s; only a timeout ends it", nameOf(f), f.Panic))
	}
	return chain.Reported{Err: errors.Join(failed...)}
}

// nameOf returns the name of the round in which a function of the app has panicked.
func nameOf(f rounds.Failed) string { return cmp.Or(string(f.Round), f.Label) }

// blockOf returns the block of a view, as the FSM sees it. The time is in UTC, whatever the zone of
// the node, because deadlines are written.
func blockOf(v chain.View) (rounds.Block, error) {
	at, err := v.Version()
	if err != nil {
		return rounds.Block{}, err
	}
	now, err := v.BlockTime()
	if err != nil {
		return rounds.Block{}, err
	}
	return rounds.Block{Place: rounds.Place{Epoch: at.Period, Height: at.Height}, Time: now.UTC()}, nil
}

// agentsOf returns the agents of validators, in the same order.
func (b *Backend[S]) agentsOf(validators [][]byte) (agents []rounds.Agent) {
	for _, address := range validators {
		if a, ok := b.agents[string(address)]; ok {
			agents = append(agents, a)
		}
	}
	return agents
}

// change changes the FSM's state by a part of a block, and writes what has changed of it. If the
// part decides on a reset of the chain, that is written, too.
func (b *Backend[S]) change(v chain.View, block rounds.Block,
	step func(rounds.State[S], rounds.Block, *rounds.Report) rounds.State[S],
) (r rounds.Report, err error) {
	if block.Resumed, err = resumed(v, block); err != nil {
		return r, err
	}
	st, was, err := b.read(v)
	if err != nil {
		return r, err
	}

	before, err := encode(st)
	if err != nil {
		return r, err
	}
	after, err := encode(step(st, block, &r))
	if err != nil {
		return r, err
	}

	if !before.equal(after) {
		if err := was.write(v, after); err != nil {
			return r, err
		}
	}
	for _, e := range r.Ended {
		if e.Reset {
			decide := chain.DecideReset
			if b.prunes {
				decide = chain.DecidePruning
			}
			_, err := decide(v, b.offset)
			return r, err
		}
	}

	return r, nil
}

// read returns the state, and what of it is written. Before the first change nothing is.
func (b *Backend[S]) read(v chain.View) (st rounds.State[S], was parts, err error) {
	st, was, err = Read[S](func(key []byte) ([]byte, bool, error) { return v.Get(key) })
	if err == nil && len(was) == 0 {
		st = b.Begin()
	}
	return st, was, err
}

// ChainID returns the name of the chain, which resets do not change.
func (b *Backend[S]) ChainID() string { return b.chainID }

// Machine returns the machine of the service with the chain's agents.
func (b *Backend[S]) Machine() rounds.Machine[S] { return b.machine }

// Read returns the state of the FSM. get reads a key of the replicated state.
func (b *Backend[S]) Read(get func(key []byte) (value []byte, found bool, err error)) (rounds.State[S], error) {
	st, was, err := Read[S](get)
	if err == nil && len(was) == 0 {
		st = b.Begin()
	}
	return st, err
}

// Begin returns the state of the service before its first block.
func (b *Backend[S]) Begin() rounds.State[S] { return b.machine.Service.Begin(b.machine.Agents) }
