package behaviours

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/rounds"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a chain with the accepted transactions of all its nodes. It is the part that outlives the
// behaviours.
type fake[S any] struct {
	t       testing.TB
	machine rounds.Machine[S]
	keys    map[rounds.Agent]ed25519.PrivateKey

	mu      sync.Mutex
	st      rounds.State[S]
	at      chain.State
	order   []chain.TxID // accepted, without a block
	txs     map[chain.TxID]chain.Tx
	ended   map[chain.TxID]chain.Ending
	waits   map[chain.TxID]chan struct{} // closed when the transaction has ended
	moved   chan struct{}                // closed by the next block
	bell    chan struct{}                // rung by each submission
	ticks   int                          // submissions of ticks, the same ones counted once
	refused []rounds.Refusal
	events  []rounds.Event
	said    map[string]int // payloads in blocks, by agent, label and count
	acked   []chain.TxID   // payloads and ticks whose submission was acknowledged
	down    int            // so many calls fail, each second one after its effect
}

func newFake[S any](t testing.TB, service *rounds.Service[S], n int) *fake[S] {
	require.Empty(t, service.Check())
	f := &fake[S]{t: t, keys: map[rounds.Agent]ed25519.PrivateKey{}, txs: map[chain.TxID]chain.Tx{},
		ended: map[chain.TxID]chain.Ending{}, waits: map[chain.TxID]chan struct{}{}, said: map[string]int{},
		moved: make(chan struct{}), bell: make(chan struct{}, 1)}
	for i := range n {
		f.keys[rounds.Agent(fmt.Sprint("agent", i))] = ed25519.NewKeyFromSeed(fmt.Appendf(nil, "%032d", i))
	}

	agents, err := rounds.NewAgents(0, slices.Collect(maps.Keys(f.keys))...)
	require.NoError(t, err)
	f.machine = rounds.Machine[S]{Service: service, Agents: agents}
	f.st = service.Begin(agents)
	f.at = chain.State{ChainID: "test", Params: chain.DefaultParams(), Time: time.Now()}
	return f
}

func (f *fake[S]) config(a rounds.Agent) Config[S] {
	return Config[S]{Machine: f.machine, Chain: f, ChainID: "test", Agent: a, Key: f.keys[a]}
}

// fails reports whether a call fails now.
func (f *fake[S]) fails() bool {
	if f.down > 0 {
		f.down--
		return true
	}
	return false
}

func (f *fake[S]) State(context.Context) (st rounds.State[S], at chain.State, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails() {
		return st, at, engines.ErrDown
	}
	b, err := json.Marshal(f.st)
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	return st, f.at, err
}

func (f *fake[S]) Follow(ctx context.Context, moved func()) error {
	for {
		f.mu.Lock()
		next := f.moved
		f.mu.Unlock()

		select {
		case <-next:
			moved()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (f *fake[S]) Pending(_ context.Context, nonce []byte) (found []chain.TxID, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails() {
		return nil, engines.ErrDown
	}
	for _, id := range f.order {
		if string(f.txs[id].Nonce) == string(nonce) {
			found = append(found, id)
		}
	}
	return found, nil
}

func (f *fake[S]) Submit(_ context.Context, raw []byte) (chain.Submitted, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.fails() && f.down%2 == 0
	if before {
		return chain.Submitted{}, engines.ErrDown
	}

	id := chain.HashTx(raw)
	if _, again := f.txs[id]; !again {
		tx, err := chain.DecodeTx(raw)
		require.NoError(f.t, err)
		f.txs[id], f.order, f.waits[id] = tx, append(f.order, id), make(chan struct{})
		if _, tick := rounds.DecodeTick(tx.Body); tick {
			f.ticks++
		}
	}

	select {
	case f.bell <- struct{}{}:
	default:
	}
	if f.fails() {
		return chain.Submitted{}, engines.ErrDown // it was accepted, and the caller does not know
	}
	f.acked = append(f.acked, id)
	return chain.Submitted{ID: id}, nil
}

func (f *fake[S]) Wait(ctx context.Context, id chain.TxID) (chain.Ending, error) {
	f.mu.Lock()
	ended, known := f.waits[id]
	f.mu.Unlock()
	if !known {
		return chain.Ending{ID: id}, nil
	}

	select {
	case <-ended:
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.ended[id], nil
	case <-ctx.Done():
		return chain.Ending{}, context.Cause(ctx)
	}
}

// block makes a block of the accepted transactions; those that have expired end without it.
func (f *fake[S]) block() {
	f.mu.Lock()
	defer f.mu.Unlock()

	b := rounds.Block{Place: rounds.Place{Height: f.at.Height + 1}, Time: time.Now().UTC()}
	if !b.Time.After(f.at.Time) {
		b.Time = f.at.Time.Add(time.Millisecond)
	}

	for _, id := range f.order {
		tx, how := f.txs[id], chain.Ending{ID: id, Known: true}
		if tx.ValidUntil.Before(b.Time) {
			how.Expired = &b.Time
		} else {
			how.Result = &logv1.TxResult{}
			if t, tick := rounds.DecodeTick(tx.Body); tick && f.st.Takes(t, 0, b.Time) != nil {
				how.Result.Code = logv1.Code_CODE_FAILED
			} else if !tick {
				p, err := rounds.Open("test", tx.Body, func(a rounds.Agent) (ed25519.PublicKey, bool) {
					key, ok := f.keys[a]
					return key.Public().(ed25519.PublicKey), ok
				})
				require.NoError(f.t, err)
				f.said[fmt.Sprint(p.Agent, p.Label, p.Count)]++
				b.Payloads = append(b.Payloads, p)
			}
		}
		f.ended[id] = how
		close(f.waits[id])
	}
	f.order = nil

	var report rounds.Report
	f.st, report = f.machine.Step(f.st, b)
	f.refused = append(f.refused, report.Refusals...)
	for _, e := range report.Ended {
		f.events = append(f.events, e.Event)
	}
	f.at.Height, f.at.Time = b.Height, b.Time
	close(f.moved)
	f.moved = make(chan struct{})
}

// solo makes a block for each submission, soon after it, as solo does, until ctx ends.
func (f *fake[S]) solo(ctx context.Context) {
	for {
		select {
		case <-f.bell:
			<-time.After(time.Millisecond) // in the bubble's time
			f.block()
		case <-ctx.Done():
			return
		}
	}
}
