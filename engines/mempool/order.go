package mempool

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// take replies with the oldest transactions without a place, once there is one. They stay in the
// pool until they have a place, so a transaction that was taken and not ordered is offered again.
func (p *pool) take(_ context.Context, q take, from engines.From[[][]byte]) error {
	p.takers = append(p.takers, taker{q, from})
	p.serveTakers()
	return nil
}

func (p *pool) serveTakers() {
	if len(p.takers) == 0 {
		return
	}

	unoffered := func(e *entry) bool { return e.placed || e.ended }
	p.queue.drop(unoffered)
	if len(p.queue.all()) == 0 {
		return
	}

	for _, t := range p.takers {
		var txs [][]byte
		bytes := 0

		for _, e := range p.queue.all() {
			if unoffered(e) {
				continue
			}
			bytes += len(e.raw)
			if len(txs) == t.maxTxs || len(txs) > 0 && bytes > t.maxBytes {
				break
			}
			txs = append(txs, e.raw)
		}

		t.from.Reply(txs)
	}

	p.takers = nil
}

// placeBlock tells the workers of a decided block's transactions their places, and starts a worker
// for each transaction that has none.
func (p *pool) placeBlock(ctx context.Context, q place, from engines.From[struct{}]) error {
	if err := p.ours(q.by); err != nil {
		from.Fail(err)
		return nil
	}

	ctx = engines.Lifetime(ctx)             // half a block must not be placed
	if _, err := p.chain(ctx); err != nil { // the workers need the limits of the chain
		return err
	}

	for i, raw := range q.block.Txs {
		id := chain.HashTx(raw)
		e := p.pending[id]

		if q.refused[i] != nil {
			if e != nil {
				e.placed = true // it is not offered again; its refusal ends it
			}
			continue
		}

		if e == nil { // it was submitted to another node
			tx, err := chain.DecodeTx(raw)
			if err != nil {
				return fmt.Errorf("place %d of %v was not refused: %w", i, q.block, err)
			}
			e = &entry{id: id, raw: raw, tx: tx}
			p.add(e)
		}

		e.placed = true
		if err := p.checkDeadly(e, q.block); err != nil {
			return err
		}

		at := chain.Placement{
			Version: chain.Version{Period: q.block.Period, Height: q.block.Height, Index: uint32(i)},
			Time:    q.block.Time,
		}

		if e.place != nil {
			e.eager = false
			p.eager--
			e.place <- at
			if e.wanting && p.workable { // the block does not wait for its turn
				e.wanting = false
				if err := p.start(ctx, e); err != nil {
					return err
				}
			}
		} else if err := p.work(ctx, e, &at); err != nil {
			return err
		}
	}

	from.Reply(struct{}{})
	return nil
}

// follow brings the pool's state of the chain to a committed block. It reports whether the block
// was in hold: the time of such a block does not count, so nothing expires by it.
func (p *pool) follow(ctx context.Context, rec *logv1.BlockCommitted) (held bool, err error) {
	if rec.Period != p.state.Period { // the first block of another epoch
		p.state, err = p.Store.State(ctx)
		return false, err
	}

	held = p.state.InHold()
	if p.state.Reset, err = chain.ResetOf(rec.Changes, p.state.Reset); err != nil {
		return held, err
	}
	p.state.Height = rec.Height
	if !held {
		p.state.Time = time.Unix(0, rec.TimeNs)
	}

	return held, nil
}

// committed ends the transactions of a block, and those that expired because of the block's time.
func (p *pool) committed(ctx context.Context, m committed) error {
	if p.ours(m.by) != nil {
		return nil
	}

	held, err := p.follow(ctx, m.rec)
	if err != nil {
		return err
	}

	for _, r := range m.rec.Results {
		id, err := chain.TxIDFromBytes(r.Id)
		if err != nil {
			return err
		}
		if e := p.pending[id]; e != nil {
			p.end(e, chain.Ending{ID: id, Known: true, Result: r})
		}
	}

	if !held {
		if err := p.expirePassed(ctx); err != nil {
			return err
		}
	}

	// The pool alone launches transactions, so with none on its way to the log it knows all that
	// the log has up to this block. Without this, the floor of a node that launches nothing would
	// stand.
	if p.launching == 0 {
		if s, err := p.Store.State(ctx); err == nil { // a store that is down takes the pool along
			p.newest = max(p.newest, s.Index)
		}
	}

	return p.settle(ctx)
}

// end takes e out of the pool and tells the callers that wait for it.
func (p *pool) end(e *entry, how chain.Ending) {
	e.ended = true
	delete(p.pending, e.id)
	if e.sender != (sender{}) {
		if p.waiting[e.sender]--; p.waiting[e.sender] == 0 {
			delete(p.waiting, e.sender)
		}
	}
	p.bytes -= int64(len(e.raw))
	if e.prepared != nil {
		p.prepared -= len(e.tx.Body)
	}
	if e.suspect {
		p.cleared = append(p.cleared, e.id)
	}

	if e.eager { // its worker still waits for a place, and will not get one
		e.eager = false
		p.eager--
		close(e.place)
	}

	for _, w := range e.waits {
		w.tell(how)
	}

	e.waits = nil
}

// expirePassed logs the end of the transactions that can never be applied any more because a block
// with a later time is committed.
func (p *pool) expirePassed(ctx context.Context) error {
	now := p.state.Time
	if p.nextExpiry.IsZero() || !p.nextExpiry.Before(now) {
		return nil
	}

	p.nextExpiry = time.Time{}
	var gone []*entry
	var recs []eventlog.Record

	for _, e := range p.pending {
		until := e.tx.ValidUntil
		if until.IsZero() || e.placed {
			continue
		}

		if e.index == 0 || !until.Before(now) { // what is not durable yet is looked at again
			if p.nextExpiry.IsZero() || until.Before(p.nextExpiry) {
				p.nextExpiry = until
			}
			continue
		}

		rec, err := chain.NewRecord(&logv1.TxExpired{Id: e.id[:], BlockTimeNs: now.UnixNano()})
		if err != nil {
			return err
		}

		e.placed = true // not offered any more
		gone, recs = append(gone, e), append(recs, rec)
	}

	if len(gone) == 0 {
		return nil
	}

	self := p.self
	return p.Log.AppendThen(ctx, func(_ uint64, err error) { self.Post(expiryLogged{gone, now, err}) }, recs...)
}

func (p *pool) expiryLogged(ctx context.Context, m expiryLogged) error {
	if m.err != nil {
		return m.err
	}
	for _, e := range m.entries {
		p.recentlyExpired.add(e.id, m.at)
		p.end(e, chain.Ending{ID: e.id, Known: true, Expired: &m.at})
	}
	return p.settle(ctx)
}

// settle forgets suspects and advances the floor after transactions have ended.
func (p *pool) settle(ctx context.Context) error {
	if err := p.forgetCleared(); err != nil {
		return err
	}
	return p.advanceFloor(ctx)
}

// floorKey is the node-local key under which storage keeps the floor. The pool saves the floor only
// when it has moved by floorEvery records. A replay may therefore begin earlier than the floor.
const (
	floorKey   = "pool/floor"
	floorEvery = 4096 // records
)

func (p *pool) advanceFloor(ctx context.Context) error {
	p.launched.drop(func(e *entry) bool { return e.ended })
	floor := p.newest + 1
	if first := p.launched.all(); len(first) > 0 {
		floor = first[0].index
	}
	if floor <= p.floor {
		return nil
	}

	p.floor = floor
	p.retainer.Advance(floor)
	if floor < p.saved+floorEvery {
		return nil
	}

	p.saved = floor

	return p.Store.PutLocal(ctx, floorKey, binary.BigEndian.AppendUint64(nil, floor))
}
