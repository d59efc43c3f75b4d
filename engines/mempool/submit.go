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

// decode reads one submission, in its caller's goroutine. It does not set the id.
func (c Config) decode(raw []byte) candidate {
	k := candidate{raw: raw}
	if k.tx, k.err = chain.DecodeTx(raw); k.err != nil {
		return k
	}
	if _, ok := c.Backends[k.tx.Backend]; !ok {
		k.err = fmt.Errorf("%w: %q", chain.ErrUnknownBackend, k.tx.Backend)
	}
	return k
}

// examine has the backend of a submission check it, in the goroutine of the submission's caller.
func (c Config) examine(k candidate) candidate {
	if k.err != nil {
		return k
	}

	b := c.Backends[k.tx.Backend]
	var err error
	if k.prepared, err = prepare(b, k.tx); err != nil {
		k.err = fmt.Errorf("%w: %w", chain.ErrBadBody, err)
		return k
	}

	k.notBefore, k.err = notBefore(b, k.tx.Body)

	return k
}

// prepare is chain.PrepareTx. It turns a panic into an error, so that it is the transaction that
// fails, not the node.
func prepare(b chain.Backend, tx chain.Tx) (prepared any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("backend %s panicked: %v", b.Name(), p)
		}
	}()
	// The seal first, although PrepareTx ends with it: the body of another costs no verification.
	if err := chain.CheckSeal(b, tx); err != nil {
		return nil, err
	}
	return chain.PrepareTx(b, tx)
}

// notBefore returns the time that the time of a block with the body must have passed; it is zero if
// any block may have it. It turns a panic into an error, as prepare does.
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
			if e.launching || e.index == 0 && !e.placed {
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

		if err := p.crowd(c); err != nil {
			sub.out[i].Err = err
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
		p.keep(e, c.prepared)
		fresh, recs = append(fresh, e), append(recs, rec)
	}

	if len(fresh) > 0 {
		p.launching++
		// whatever the caller's deadline: the pool has these transactions already
		err = p.launch(engines.Lifetime(ctx), fresh, recs)
	}

	sub.done(1)

	return err
}

// launch logs transactions. If the node is alone, it offers them at once: their records come before
// that of any decision about them, so the log never has a decision without them, and nobody is told
// of them before both are durable.
func (p *pool) launch(ctx context.Context, fresh []*entry, recs []eventlog.Record) error {
	self := p.self
	done := func(first uint64, err error) { self.Post(durable{fresh, first, err}) }
	if !p.Alone {
		return p.Log.AppendThen(ctx, done, recs...)
	}

	if err := p.Log.AppendLater(ctx, done, recs...); err != nil {
		return err
	}
	p.unacked.launched += uint64(len(fresh))
	p.awaitBlock()

	for _, e := range fresh {
		e.launching = true
		p.queue.push(e)
		if err := p.work(ctx, e, nil); err != nil {
			return err
		}
	}
	p.serveTakers()
	p.serveOfferees()

	return nil
}

// unacked counts the TxLaunched of a pool that is alone, since its start.
type unacked struct {
	launched, durable uint64
	watched           bool // a syncDue is on its way
}

// ackWithin is how long an acknowledgment waits for the sync of a block, which covers it, before
// the pool asks for a sync of its own. A block is late if its transactions take long to execute, or
// if it is held.
const ackWithin = 10 * time.Millisecond

// awaitBlock gives a block the time of ackWithin to cover what is launched and not durable.
func (p *pool) awaitBlock() {
	if p.unacked.watched || p.unacked.durable == p.unacked.launched {
		return
	}
	self, due := p.self, syncDue{p.unacked.launched}
	p.unacked.watched = true
	time.AfterFunc(ackWithin, func() { self.Post(due) })
}

// syncDue asks for a sync if no block has covered what was launched ackWithin ago.
func (p *pool) syncDue(ctx context.Context, m syncDue) error {
	p.unacked.watched = false
	late := p.unacked.durable < m.launched
	p.awaitBlock()
	if !late {
		return nil
	}
	return p.Log.SyncSoon(ctx)
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

// maxPrepared bounds the bodies, in bytes, whose prepared form is kept until their transactions
// end. That form may be many times as large as the body. The workers of the others prepare again.
const maxPrepared = 4 << 20

// keep keeps the prepared form of e's body, if there is room.
func (p *pool) keep(e *entry, prepared any) {
	if n := len(e.tx.Body); prepared != nil && p.prepared+n <= maxPrepared {
		e.prepared = prepared
		p.prepared += n
	}
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

// durable acknowledges transactions that have reached the log. Unless the node is alone, only then
// does it offer them to consensus and give them workers.
func (p *pool) durable(ctx context.Context, m durable) error {
	if m.err != nil {
		return fmt.Errorf("launching %d transactions: %w", len(m.entries), m.err)
	}
	p.launching--

	for i, e := range m.entries {
		e.index = m.first + uint64(i)
		for _, s := range e.acks {
			s.done(1)
		}
		e.acks = nil

		if e.launching {
			e.launching = false
			p.unacked.durable++
			p.newest = e.index
			p.launched.push(e)
		} else if err := p.enqueue(ctx, e); err != nil {
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

// crowd returns an ErrPoolFull if as many transactions of a candidate's sender wait as may.
func (p *pool) crowd(c candidate) error {
	if c.from == (sender{}) || p.waiting[c.from] < c.most.Waiting {
		return nil
	}
	return fmt.Errorf("%w for %s: %d of its transactions wait, which is the most of backend %s", chain.ErrPoolFull,
		c.from.name, c.most.Waiting, c.from.backend)
}

// findHopeless answers an error for each submission that the pool refuses whatever a check of its
// body says. What waits already is not refused.
func (p *pool) findHopeless(ctx context.Context, q hopeless, from engines.From[[]error]) error {
	state, err := p.chain(ctx)
	if err != nil {
		return err
	}

	if !state.Started() {
		from.Fail(chain.ErrNotStarted)
		return nil
	}

	out := make([]error, len(q.txs))
	for i, c := range q.txs {
		if _, ok := p.pending[c.id]; ok || c.err != nil {
			continue
		}
		if out[i] = p.crowd(c); out[i] == nil {
			out[i] = tooLarge(c.raw, state)
		}
	}
	from.Reply(out)
	return nil
}

// senderOf returns the sender of a transaction whose backend bounds what waits, and its bounds. A
// backend that panics bounds nothing.
func (c Config) senderOf(tx chain.Tx) (from sender, most chain.Bounds) {
	b, ok := c.Backends[tx.Backend].(chain.Bounded)
	if !ok {
		return sender{}, chain.Bounds{}
	}

	defer func() {
		if recover() != nil {
			from, most = sender{}, chain.Bounds{}
		}
	}()
	name, most := b.Sender(tx.Body)
	if name == "" {
		return sender{}, chain.Bounds{}
	}
	return sender{tx.Backend, name}, most
}
