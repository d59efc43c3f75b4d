package mempool

import (
	"bytes"
	"context"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
)

// waiting is a caller that waits until several transactions have ended.
type waiting struct {
	out  []chain.Ending
	at   map[chain.TxID][]int // the positions in out of each id that has not ended
	from engines.From[[]chain.Ending]
}

func (w *waiting) tell(how chain.Ending) {
	for _, i := range w.at[how.ID] {
		w.out[i] = how
	}
	delete(w.at, how.ID)
	if len(w.at) == 0 {
		w.from.Reply(w.out)
	}
}

func (p *pool) look(ctx context.Context, q look, from engines.From[[]chain.Ending]) error {
	out, err := p.known(ctx, q.ids)
	if err != nil {
		return err
	}
	from.Reply(out)
	return nil
}

func (p *pool) findPending(_ context.Context, q pending, from engines.From[[]chain.TxID]) error {
	var found []chain.TxID
	for id, e := range p.pending {
		if e.tx.Backend == q.backend && bytes.Equal(e.tx.Nonce, q.nonce) {
			found = append(found, id)
		}
	}
	from.Reply(found)
	return nil
}

func (p *pool) wait(ctx context.Context, q wait, from engines.From[[]chain.Ending]) error {
	out, err := p.known(ctx, q.ids)
	if err != nil {
		return err
	}

	w := &waiting{out: out, at: make(map[chain.TxID][]int), from: from}

	for i, id := range q.ids {
		if e := p.pending[id]; e != nil {
			if w.at[id] == nil {
				e.waits = append(e.waits, w)
			}
			w.at[id] = append(w.at[id], i)
		}
	}

	if len(w.at) == 0 {
		from.Reply(out)
	}

	return nil
}

// known returns what the pool, its recently expired ids and the state know of ids. It asks them in
// this order.
func (p *pool) known(ctx context.Context, ids []chain.TxID) ([]chain.Ending, error) {
	out := make([]chain.Ending, len(ids))
	var ask []chain.TxID
	var at []int

	for i, id := range ids {
		out[i].ID = id
		if e := p.pending[id]; e != nil {
			out[i].Known = !e.launching && (e.index != 0 || e.placed)
			continue
		}

		if t, ok := p.recentlyExpired.when[id]; ok {
			out[i].Known, out[i].Expired = true, &t
			continue
		}

		ask, at = append(ask, id), append(at, i)
	}

	if len(ask) == 0 {
		return out, nil
	}
	found, err := p.Store.Results(ctx, ask)
	if err != nil {
		return nil, err
	}

	for i, r := range found {
		if r != nil {
			out[at[i]].Known, out[at[i]].Result = true, r
		}
	}

	return out, nil
}

// expiredKept is how many expired ids the pool remembers, so that a late waiter still learns how
// they ended. A caller that asks for an older one can tell from its valid_until.
const expiredKept = 65_536

// recentlyExpired is a set of the ids that expired last, with the block time at which they did. A
// new id takes the place of the oldest.
type recentlyExpired struct {
	when map[chain.TxID]time.Time
	ring []chain.TxID
	next int
}

func newRecentlyExpired(n int) recentlyExpired {
	return recentlyExpired{when: make(map[chain.TxID]time.Time), ring: make([]chain.TxID, 0, n)}
}

func (x *recentlyExpired) add(id chain.TxID, at time.Time) {
	if len(x.ring) < cap(x.ring) {
		x.ring = append(x.ring, id)
	} else {
		delete(x.when, x.ring[x.next])
		x.ring[x.next] = id
		x.next = (x.next + 1) % len(x.ring)
	}
	x.when[id] = at
}
