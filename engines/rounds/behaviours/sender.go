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
	news *bell      // rung when there may be a new state
	mu   sync.Mutex // held from the search for a payload until it is accepted
}

// open reports whether the turn is still the agent's and its payload was not sent, and returns the
// state as of the last committed block. It waits while the round is interrupted, and for a payload
// that was sent: if that expires, the turn is open again.
func (s *sender[S]) open(ctx context.Context, t rounds.Turn[S]) (st rounds.State[S], at chain.State, open bool,
	err error,
) {
	for {
		news := s.news.listen()
		var sent []chain.TxID
		err := s.whileDown(ctx, func() (err error) {
			st, at, sent, err = s.look(ctx, t)
			return err
		})

		switch {
		case err != nil:
			return st, at, false, err
		case s.suspended(st, t):
			if err := await(ctx, news); err != nil {
				return st, at, false, err
			}
			continue
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

// suspended reports whether the round of the turn is interrupted.
func (s *sender[S]) suspended(st rounds.State[S], t rounds.Turn[S]) bool {
	turn, ok := s.Machine.Suspended(st, s.Agent)
	return ok && turn.Label == t.Label && turn.Count == t.Count
}

// send sends the payload of a turn, unless one was sent meanwhile, and waits until its transaction
// has ended. An error of the pool that passes is waited for, and so is the end of an interruption.
func (s *sender[S]) send(ctx context.Context, t rounds.Turn[S], payload []byte, at chain.State) (chain.Ending, error) {
	if most := at.Params.GetMaxTxBytes(); uint64(len(payload)) > most {
		return chain.Ending{}, fmt.Errorf("%w: the payload of %s has %d bytes, want at most %d with its envelope",
			chain.ErrTooLarge, t.Name, len(payload), most)
	}

	for {
		p := rounds.Payload{Agent: s.Agent, Label: t.Label, Count: t.Count, ValidUntil: validity(at, s.Now()),
			Bytes: payload}
		raw, err := p.Tx(s.ChainID, s.Key).Encode()
		if err != nil {
			return chain.Ending{}, err
		}

		news := s.news.listen()
		var id chain.TxID
		err = s.whileDown(ctx, func() (err error) {
			id, err = s.submit(ctx, t, raw)
			return err
		})

		switch {
		case err == nil:
			return s.wait(ctx, id)
		case !errors.Is(err, errSuspended):
			return chain.Ending{}, err
		}
		if err := await(ctx, news); err != nil {
			return chain.Ending{}, err
		}
	}
}

// errSuspended is the error of a submission for a round that is interrupted.
var errSuspended = errors.New("the round is interrupted")

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
	case s.suspended(st, t):
		return chain.TxID{}, errSuspended
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
