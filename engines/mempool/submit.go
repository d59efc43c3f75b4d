package mempool

import (
	"context"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// submission is a batch whose caller waits until all of it is durable.
type submission struct {
	out  []chain.Submitted
	left int
	from engines.From[[]chain.Submitted]
}

func (s *submission) done(n int) {
	if s.left -= n; s.left == 0 {
		s.from.Reply(s.out)
	}
}

// examine decodes and checks one submission, in its caller's goroutine. It does not set the id.
func (c Config) examine(raw []byte) candidate {
	k := candidate{raw: raw}
	if k.tx, k.err = chain.DecodeTx(raw); k.err != nil {
		return k
	}

	b, ok := c.Backends[k.tx.Backend]
	if !ok {
		k.err = fmt.Errorf("%w: %q", chain.ErrUnknownBackend, k.tx.Backend)
		return k
	}

	if err := check(b, k.tx.Body); err != nil {
		k.err = fmt.Errorf("%w: %w", chain.ErrBadBody, err)
		return k
	}

	k.notBefore, k.err = notBefore(b, k.tx.Body)

	return k
}

// check runs the backend's Check and returns its error. It turns a panic into an error, so that it
// is the transaction that fails, not the node.
func check(b chain.Backend, body []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("backend %s panicked: %v", b.Name(), p)
		}
	}()
	return b.Check(body)
}

// notBefore returns the time that the time of a block with the body must have passed; it is zero if
// any block may have it. It turns a panic into an error, as check does.
func notBefore(b chain.Backend, body []byte) (t time.Time, err error) {
	d, ok := b.(chain.Deferred)
	if !ok {
		return t, nil
	}

	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: backend %s panicked: %v", chain.ErrBadBody, b.Name(), p)
		}
	}()
	if at, deferred := d.NotBefore(body); deferred {
		t = at
	}
	return t, nil
}

func (p *pool) submit(ctx context.Context, q submit, from engines.From[[]chain.Submitted]) error {
	state, err := p.chain(ctx)
	if err != nil {
		return err
	}

	if !state.Started() {
		from.Fail(chain.ErrNotStarted)
		return nil
	}

	results, err := p.applied(ctx, q.txs)
	if err != nil {
		return err
	}

	now := p.Now()
	sub := &submission{out: make([]chain.Submitted, len(q.txs)), left: 1, from: from}
	var fresh []*entry
	var recs []eventlog.Record

	for i, c := range q.txs {
		sub.out[i] = chain.Submitted{ID: c.id, Err: c.err}
		if c.err != nil {
			continue
		}

		if e, ok := p.pending[c.id]; ok { // submitted again: it gets the same answer
			if e.index == 0 && !e.placed {
				sub.left++
				e.acks = append(e.acks, sub)
			}
			continue
		}

		if results[i] != nil {
			continue
		}

		if err := admissible(c, state, now); err != nil {
			sub.out[i].Err = err
			continue
		}

		if from, most := p.senderOf(c.tx); from != (sender{}) && p.waiting[from] >= most {
			sub.out[i].Err = fmt.Errorf("%w for %s: %d of its transactions wait, which is the most of backend %s",
				chain.ErrPoolFull, from.name, most, from.backend)
			continue
		}

		if len(p.pending) >= p.MaxTxs || p.bytes+int64(len(c.raw)) > p.MaxBytes {
			sub.out[i].Err = fmt.Errorf("%w: it holds %d transactions of %d bytes", chain.ErrPoolFull,
				len(p.pending), p.bytes)
			continue
		}

		rec, err := chain.NewRecord(&logv1.TxLaunched{Tx: c.raw, ReceivedNs: now.UnixNano()})
		if err != nil {
			return err
		}

		e := &entry{id: c.id, raw: c.raw, tx: c.tx, since: now, acks: []*submission{sub}}
		sub.left++
		p.add(e)
		fresh, recs = append(fresh, e), append(recs, rec)
	}

	if len(fresh) > 0 {
		self := p.self
		done := func(first uint64, err error) { self.Post(durable{fresh, first, err}) }
		// whatever the caller's deadline: the pool has these transactions already
		err = p.Log.AppendThen(engines.Lifetime(ctx), done, recs...)
	}

	sub.done(1)

	return err
}

// applied returns the results that the state has of the candidates, one entry for each of txs. It
// looks up only those that are neither refused nor pending; the other entries are nil.
func (p *pool) applied(ctx context.Context, txs []candidate) ([]*logv1.TxResult, error) {
	var ids []chain.TxID
	var at []int

	for i, c := range txs {
		if _, pending := p.pending[c.id]; c.err == nil && !pending {
			ids, at = append(ids, c.id), append(at, i)
		}
	}

	all := make([]*logv1.TxResult, len(txs))
	if len(ids) == 0 {
		return all, nil
	}
	found, err := p.Store.Results(ctx, ids)
	if err != nil {
		return nil, err
	}

	for i, r := range found {
		all[at[i]] = r
	}

	return all, nil
}

func (p *pool) add(e *entry) {
	p.pending[e.id] = e
	e.suspect = p.suspect(e.id)
	if e.sender, _ = p.senderOf(e.tx); e.sender != (sender{}) {
		p.waiting[e.sender]++
	}
	p.bytes += int64(len(e.raw))
	if until := e.tx.ValidUntil; !until.IsZero() && (p.nextExpiry.IsZero() || until.Before(p.nextExpiry)) {
		p.nextExpiry = until
	}
}

// durable acknowledges transactions that have reached the log. Only then does it offer them to
// consensus and give them workers.
func (p *pool) durable(ctx context.Context, m durable) error {
	if m.err != nil {
		return fmt.Errorf("launching %d transactions: %w", len(m.entries), m.err)
	}

	for i, e := range m.entries {
		e.index = m.first + uint64(i)
		for _, s := range e.acks {
			s.done(1)
		}
		e.acks = nil
		if err := p.enqueue(ctx, e); err != nil {
			return err
		}
	}

	p.serveTakers()
	p.serveOfferees()
	return nil
}

// enqueue offers a durable transaction to consensus and gives it a worker.
func (p *pool) enqueue(ctx context.Context, e *entry) error {
	p.newest = max(p.newest, e.index)
	p.launched.push(e)
	if e.ended || e.placed { // another node's proposal was faster than this node's disk
		return nil
	}
	p.queue.push(e)
	return p.work(ctx, e, nil)
}

// senderOf returns the sender of a transaction whose backend bounds what waits, and its bound. A
// backend that panics bounds nothing.
func (p *pool) senderOf(tx chain.Tx) (from sender, most int) {
	b, ok := p.Backends[tx.Backend].(chain.Bounded)
	if !ok {
		return sender{}, 0
	}

	defer func() {
		if recover() != nil {
			from, most = sender{}, 0
		}
	}()
	name, most := b.Sender(tx.Body)
	if name == "" {
		return sender{}, 0
	}
	return sender{tx.Backend, name}, most
}
