package rounds

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
)

// Tick is a transaction that only brings a block, to a chain that is idle. All nodes that need the
// block make the same bytes of it. It is not signed, and changes nothing.
type Tick struct {
	Epoch uint64
	Count uint64 // of the entry into the current round

	// After is the deadline that the time of the block must have passed. For a round that counts
	// blocks it is the time of the last block.
	After time.Time

	// Waited is set for a round that counts blocks: what State.Waited returns.
	Waited uint32
}

// ErrTick is the error for a tick that the FSM does not need.
var ErrTick = errors.New("tick")

const (
	tickMagic = "tick"
	tickSize  = len(tickMagic) + 8 + 8 + 8 + 4 // fewer than a signature has, so that no payload is one
)

// Encode returns the body of the tick's transaction: "tick", and then big-endian the epoch, the
// count, After in Unix nanoseconds, and Waited.
func (t Tick) Encode() []byte {
	b := append(make([]byte, 0, tickSize), tickMagic...)
	b = binary.BigEndian.AppendUint64(b, t.Epoch)
	b = binary.BigEndian.AppendUint64(b, t.Count)
	b = binary.BigEndian.AppendUint64(b, uint64(t.After.UnixNano()))
	return binary.BigEndian.AppendUint32(b, t.Waited)
}

// DecodeTick reads what Encode wrote, and reports whether body is a tick.
func DecodeTick(body []byte) (t Tick, ok bool) {
	if len(body) != tickSize || string(body[:len(tickMagic)]) != tickMagic {
		return Tick{}, false
	}

	b := body[len(tickMagic):]
	return Tick{
		Epoch: binary.BigEndian.Uint64(b), Count: binary.BigEndian.Uint64(b[8:]),
		After:  time.Unix(0, int64(binary.BigEndian.Uint64(b[16:]))).UTC(),
		Waited: binary.BigEndian.Uint32(b[24:]),
	}, true
}

// Tx returns the tick's transaction at a time after t.After, on a chain with the given window. It
// is valid for one window after the deadline. A tick that no block took by then is made anew for
// the next window, so that its bytes depend on the clock as little as possible.
func (t Tick) Tx(window time.Duration, now time.Time) chain.Tx {
	valid := t.After.Add(window)
	if late := now.Sub(t.After); late > 0 {
		valid = valid.Add(late.Truncate(window))
	}
	return chain.Tx{Backend: Backend, ValidUntil: valid.UTC().Truncate(time.Millisecond), Body: t.Encode()}
}

// checkSeal returns an ErrTick unless tx is what Tx returns at some time.
func (t Tick) checkSeal(window time.Duration, tx chain.Tx) error {
	if len(tx.Nonce) > 0 {
		return fmt.Errorf("%w with a nonce of %d bytes, want none", ErrTick, len(tx.Nonce))
	}

	windows := tx.ValidUntil.Sub(t.After) / window
	for _, n := range []time.Duration{windows, windows + 1} { // the end is cut to milliseconds
		if n > 0 && t.After.Add(n*window).Truncate(time.Millisecond).Equal(tx.ValidUntil) {
			return nil
		}
	}
	return fmt.Errorf("%w for %v is valid until %v: want whole windows of %v after it", ErrTick, t.After,
		tx.ValidUntil.UTC(), window)
}

// Waited returns how many blocks the rounds in progress have counted; 0 if none counts blocks now.
func (st State[S]) Waited() uint32 {
	n := st.Ballot.Waited
	for _, side := range st.Sides {
		n += side.Ballot.Waited
	}
	return uint32(n)
}

// NextTick returns the tick that brings the FSM on when no other transaction does: at once for a
// round that counts blocks, and otherwise after the earliest deadline. ok is false if the FSM waits
// for payloads only. last is the time of the last block.
func (st State[S]) NextTick(epoch uint64, last time.Time) (t Tick, ok bool) {
	if n := st.Waited(); n > 0 {
		return Tick{Epoch: epoch, Count: st.Count, After: last.UTC(), Waited: n}, true
	}
	if d, armed := st.Deadline(); armed {
		return Tick{Epoch: epoch, Count: st.Count, After: d.At.UTC()}, true
	}
	return Tick{}, false
}

// Takes returns an ErrTick if the FSM does not need the tick in a block of the given time.
func (st State[S]) Takes(t Tick, epoch uint64, now time.Time) error {
	d, armed := st.Deadline()

	switch {
	case t.Epoch != epoch || t.Count != st.Count:
		return fmt.Errorf("%w of epoch %d, count %d: the round is of epoch %d, count %d", ErrTick, t.Epoch, t.Count,
			epoch, st.Count)
	case !now.After(t.After):
		return fmt.Errorf("%w: the block's time has not passed %v", ErrTick, t.After)
	case t.Waited > 0 && t.Waited != st.Waited():
		return fmt.Errorf("%w after %d blocks that the round counts: it has counted %d", ErrTick, t.Waited, st.Waited())
	case t.Waited == 0 && !armed:
		return fmt.Errorf("%w: no deadline is armed", ErrTick)
	case t.Waited == 0 && !d.At.Equal(t.After):
		return fmt.Errorf("%w for %v: the deadline is %v", ErrTick, t.After, d.At)
	default:
		return nil
	}
}
