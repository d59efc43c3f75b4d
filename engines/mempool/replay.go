package mempool

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// RetainerName is the name of the pool's retainer, as `log stat` shows it.
const RetainerName = "pool"

// recallSlack is the number of ended transactions that a replay may keep in memory beyond the
// number of pending ones.
const recallSlack = 4096

// replay restores, from the event log, the transactions that were acknowledged and have not ended.
func (p *pool) replay(ctx context.Context) error {
	last, err := p.Log.Fence(ctx)
	if err != nil {
		return err
	}
	if p.state, err = p.Store.State(ctx); err != nil {
		return err
	}
	if p.floor, err = p.Log.First(ctx); err != nil {
		return err
	}
	saved, found, err := p.Store.GetLocal(ctx, floorKey)
	if err != nil {
		return err
	}

	if found {
		if len(saved) != 8 {
			return fmt.Errorf("node-local key %q: %d bytes, want 8", floorKey, len(saved))
		}
		p.saved = binary.BigEndian.Uint64(saved)
		p.floor = max(p.floor, p.saved)
	}

	if p.retainer, err = p.Log.Retain(ctx, RetainerName, p.floor); err != nil {
		return err
	}

	p.newest = p.floor - 1
	if p.floor > last {
		return nil
	}

	var order []*entry
	jumped := false // the state jumped over blocks that the log does not have

	open := func(from uint64) (*eventlog.Cursor, error) { return p.Log.Cursor(ctx, from) }

	for rec, err := range chain.Records(open, p.floor, last, chain.KindTxLaunched, chain.KindTxExpired,
		chain.KindBlockCommitted, chain.KindSnapshotInstalled) {
		if err != nil {
			return err
		}
		if order, err = p.recall(order, rec); err != nil {
			return err
		}

		jumped = jumped || rec.Kind == chain.KindSnapshotInstalled
		if len(order) > 2*len(p.pending)+recallSlack { // a long log must not need much memory
			order = slices.DeleteFunc(order, func(e *entry) bool { return e.ended })
		}
	}

	if jumped {
		if err := p.endApplied(ctx, order); err != nil {
			return err
		}
	}

	p.newest = last // all is read up to here: the floor moves on a node that launches nothing, too

	for _, e := range order {
		if e.ended {
			continue
		}
		if err := p.enqueue(ctx, e); err != nil {
			return err
		}
	}

	return p.settle(ctx)
}

// endApplied ends the transactions in order that have a result in the state. A snapshot took the
// state's place, so the log has no record of the results in the blocks before it.
func (p *pool) endApplied(ctx context.Context, order []*entry) error {
	const atOnce = 4096
	for some := range slices.Chunk(order, atOnce) {
		ids := make([]chain.TxID, len(some))
		for i, e := range some {
			ids[i] = e.id
		}

		results, err := p.Store.Results(ctx, ids)
		if err != nil {
			return err
		}

		for i, r := range results {
			if r != nil && !some[i].ended {
				p.end(some[i], chain.Ending{})
			}
		}
	}

	return nil
}

// recall applies one record of the log to the pool. It returns order, with the record's transaction
// added if that is new.
func (p *pool) recall(order []*entry, rec eventlog.Entry) ([]*entry, error) {
	if rec.Kind == chain.KindBlockCommitted {
		return order, chain.EndedIDs(rec, func(id chain.TxID) error {
			p.forget(id)
			return nil
		})
	}

	m, err := chain.DecodeRecord(rec)
	if err != nil {
		return nil, err
	}

	switch m := m.(type) {
	case *logv1.TxLaunched:
		tx, err := chain.DecodeTx(m.Tx)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", rec.Index, err)
		}

		e := &entry{id: chain.HashTx(m.Tx), raw: m.Tx, tx: tx, since: time.Unix(0, m.ReceivedNs), index: rec.Index}
		p.newest = rec.Index

		if p.pending[e.id] == nil {
			p.add(e)
			order = append(order, e)
		}

	case *logv1.TxExpired:
		id, err := chain.TxIDFromBytes(m.Id)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", rec.Index, err)
		}
		p.forget(id)
		p.recentlyExpired.add(id, time.Unix(0, m.BlockTimeNs))
	}

	return order, nil
}

// forget ends a transaction that has ended by the log, if it is pending.
func (p *pool) forget(id chain.TxID) {
	if e := p.pending[id]; e != nil {
		p.end(e, chain.Ending{})
	}
}
