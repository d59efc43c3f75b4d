package mempool

import (
	"context"
	"slices"

	"github.com/coppice-go/coppice/engines"
)

// offer replies with the oldest transactions without a place whose log index is above q.after. If
// there are none, it replies with none, or with q.wait it replies once there are some. It is for a
// driver that spreads transactions and, other than a caller of take, does not want the same ones
// again.
func (p *pool) offer(_ context.Context, q offer, from engines.From[offered]) error {
	if !p.serve(q, from) {
		if !q.wait {
			from.Reply(offered{})
			return nil
		}
		for _, o := range p.offerees {
			o.from.Reply(offered{}) // the one caller of offer asks again, or is gone
		}
		p.offerees = []offeree{{q, from}}
	}
	return nil
}

// serveOfferees replies to the callers of offer that wait, if there is a transaction for them.
func (p *pool) serveOfferees() {
	waiting := p.offerees
	p.offerees = nil
	for _, o := range waiting {
		if !p.serve(o.offer, o.from) {
			p.offerees = append(p.offerees, o)
		}
	}
}

// serve replies to q if there is a transaction to offer, and reports whether there was. The queue
// is in log order, so a binary search finds the first one after q.after. The last ones may have no
// index yet.
func (p *pool) serve(q offer, from engines.From[offered]) bool {
	p.queue.drop(func(e *entry) bool { return e.placed || e.ended })
	queue := p.queue.all()
	at, _ := slices.BinarySearchFunc(queue, q.after, func(e *entry, after uint64) int {
		if e.index <= after && !e.launching {
			return -1
		}
		return 1
	})
	var o offered
	bytes := 0

	for _, e := range queue[at:] {
		if e.placed || e.ended {
			continue
		}
		bytes += len(e.raw)
		if len(o.txs) == q.maxTxs || len(o.txs) > 0 && bytes > q.maxBytes {
			break
		}
		o.txs, o.last = append(o.txs, e.raw), e.index
	}

	if len(o.txs) == 0 {
		return false
	}

	from.Reply(o)

	return true
}
