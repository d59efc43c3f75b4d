package storage

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/proto"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// StartChain begins a chain, or the next period of a chain. rec is the ChainStarted record, and
// index is its index in the event log. Keys and applied ids stay as they are; heights begin anew. A
// staged block is dropped. A record at or below the applied index changes nothing, and neither does
// the record with which the current period began. A different record for the current period is an
// ErrChain once a block of that period is committed.
func (d *DB) StartChain(index uint64, rec *logv1.ChainStarted) error {
	d.mu.Lock()
	defer d.mu.Unlock()

	if err := d.Err(); err != nil {
		return err
	}
	now := d.published.Load()
	if index <= now.Index {
		return nil
	}
	if err := checkChain(rec); err != nil {
		return err
	}

	if hash := d.acc.Hash(rec.Period); len(rec.AppHash) > 0 && !bytes.Equal(rec.AppHash, hash) {
		return fmt.Errorf("%w: chain %s (period %d) starts from app hash %x, this state has %x", ErrAppHash,
			rec.ChainId, rec.Period, rec.AppHash, hash)
	}

	if now.chain != nil && rec.Period <= now.Period {
		if proto.Equal(now.chain, rec) {
			return nil
		}
		if rec.Period < now.Period || now.Height > 0 {
			return fmt.Errorf("%w: period %d of %s (height %d) cannot become a different period %d of %s", ErrChain,
				now.Period, now.ChainID, now.Height, rec.Period, rec.ChainId)
		}
	}

	raw, err := proto.Marshal(rec)
	if err != nil {
		return fmt.Errorf("chain %s: %w", rec.ChainId, err)
	}

	next := &published{
		chain: proto.CloneOf(rec), pruned: now.pruned, reset: now.reset,
		record: record{
			ChainID: rec.ChainId, Period: rec.Period, InitialHeight: rec.InitialHeight, TimeNs: rec.GenesisTimeNs,
			AppHash: d.acc.Hash(rec.Period), Index: index, ClockNs: now.ClockNs, Keys: now.Keys, IDs: now.IDs,
		},
	}
	b := d.pdb.NewBatch()
	b.Set(metaChain, raw, nil)
	b.Set(metaState, next.encode(), nil)
	b.Set(metaAccumulator, d.acc.AppendBinary(nil), nil)
	if err := d.commit(b, "starting chain "+rec.ChainId); err != nil {
		return err
	}

	d.staged = nil
	d.published.Store(next)

	return nil
}

func checkChain(rec *logv1.ChainStarted) error {
	bad := func(what string, v any, want string) error {
		return fmt.Errorf("%w: ChainStarted of %q: %s is %v, want %s", ErrChain, rec.ChainId, what, v, want)
	}

	switch p := rec.Params; {
	case rec.ChainId == "":
		return bad("chain_id", `""`, "a name")
	case p == nil:
		return bad("params", "missing", "the limits of the genesis")
	case p.WindowNs <= 0:
		return bad("params.window_ns", p.WindowNs, "a positive duration")
	case p.MaxTxBytes == 0:
		return bad("params.max_tx_bytes", 0, "a positive size")
	}

	return nil
}

// belongs returns nil if the block with that chain, period and height is the next block, and
// otherwise an error that says why it is not.
func (p *published) belongs(what fmt.Stringer, chainID string, period, height uint64) error {
	switch next := p.state().Next(); {
	case p.chain == nil:
		return fmt.Errorf("%w: %v, but no chain has started", ErrChain, what)
	case chainID != p.ChainID || period != p.Period:
		return fmt.Errorf("%w: %v of period %d, but this is %s, period %d", ErrChain, what, period, p.ChainID, p.Period)
	case height != next:
		return fmt.Errorf("%w: %v, want height %d", errHeight, what, next)
	}
	return nil
}
