package behaviours

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/rounds"
)

// sender sends the payloads of the agent. All behaviours share it.
type sender[S any] struct {
	Config[S]
	mu sync.Mutex // held from the search for a payload until it is accepted
}

// open reports whether the turn is still the agent's and its payload was not sent, and returns the
// state as of the last committed block. It waits for a payload that was sent: if that expires, the
// turn is open again.
func (s *sender[S]) open(ctx context.Context, t rounds.Turn[S]) (st rounds.State[S], at chain.State, open bool,
	err error,
) {
	for {
		var sent []chain.TxID
		err := s.whileDown(ctx, func() (err error) {
			st, at, sent, err = s.look(ctx, t)
			return err
		})

		switch {
		case err != nil:
			return st, at, false, err
		case !s.has(st, t):
			return st, at, false, nil
		case len(sent) == 0:
			return st, at, true, nil
		}

		if _, err := s.wait(ctx, sent[0]); err != nil {
			return st, at, false, err
		}
	}
}

// look looks for payloads of the turn first among the accepted transactions, and then in the state.
// In this order it finds one that is being committed: a transaction ends after its block is in the
// state.
func (s *sender[S]) look(ctx context.Context, t rounds.Turn[S]) (st rounds.State[S], at chain.State,
	sent []chain.TxID, err error,
) {
	nonce := rounds.Payload{Agent: s.Agent, Label: t.Label, Count: t.Count}.Nonce(s.ChainID)
	if sent, err = s.Chain.Pending(ctx, nonce); err != nil {
		return st, at, nil, err
	}
	st, at, err = s.Chain.State(ctx)
	return st, at, sent, err
}

// has reports whether the state has the turn.
func (s *sender[S]) has(st rounds.State[S], t rounds.Turn[S]) bool {
	for _, turn := range s.Machine.Turns(st, s.Agent) {
		if turn.Label == t.Label && turn.Count == t.Count {
			return true
		}
	}
	return false
}

// send sends the payload of a turn, unless one was sent meanwhile, and waits until its transaction
// has ended. An error of the pool that passes is waited for.
func (s *sender[S]) send(ctx context.Context, t rounds.Turn[S], payload []byte, at chain.State) (chain.Ending, error) {
	p := rounds.Payload{Agent: s.Agent, Label: t.Label, Count: t.Count, Bytes: payload}
	if most := at.Params.GetMaxTxBytes(); uint64(len(payload)) > most {
		return chain.Ending{}, fmt.Errorf("%w: the payload of %s has %d bytes, want at most %d with its envelope",
			chain.ErrTooLarge, t.Name, len(payload), most)
	}

	tx := chain.Tx{Backend: rounds.Backend, Nonce: p.Nonce(s.ChainID), ValidUntil: validity(at, s.Now()),
		Body: p.Sign(s.ChainID, s.Key)}
	raw, err := tx.Encode()
	if err != nil {
		return chain.Ending{}, err
	}

	var id chain.TxID
	if err := s.whileDown(ctx, func() (err error) {
		id, err = s.submit(ctx, t, raw)
		return err
	}); err != nil {
		return chain.Ending{}, err
	}

	return s.wait(ctx, id)
}

// submit submits raw, and returns its id, or that of the payload of the turn that was accepted
// before. After an error the transaction may have been accepted.
func (s *sender[S]) submit(ctx context.Context, t rounds.Turn[S], raw []byte) (chain.TxID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	st, _, sent, err := s.look(ctx, t)
	switch {
	case err != nil:
		return chain.TxID{}, err
	case len(sent) > 0:
		return sent[0], nil
	case !s.has(st, t):
		return chain.HashTx(raw), nil // said, or over: whoever waits for it learns that it is unknown
	}

	out, err := s.Chain.Submit(ctx, raw)
	if err != nil {
		return chain.TxID{}, err
	}
	return out.ID, out.Err
}

func (s *sender[S]) wait(ctx context.Context, id chain.TxID) (ending chain.Ending, err error) {
	err = s.whileDown(ctx, func() (err error) {
		ending, err = s.Chain.Wait(ctx, id)
		return err
	})
	return ending, err
}

// whileDown repeats f while the engines that it needs are down, or the pool is full.
func (s *sender[S]) whileDown(ctx context.Context, f func() error) error {
	for {
		err := f()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !errors.Is(err, engines.ErrDown) && !errors.Is(err, chain.ErrPoolFull) {
			return err
		}
		if err := engines.Pause(ctx, pauseDown); err != nil {
			return err
		}
	}
}
