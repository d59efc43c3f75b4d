package streams

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// resting is a record on which a cursor may rest.
type resting struct {
	index     uint64
	chainID   string
	at        Position
	blockHash []byte // nil: the record has none
	appHash   []byte
	kind      eventlog.Kind
}

// restingOf returns what a record says about the position that it leads to; ok is false for a
// record on which no cursor rests.
func restingOf(e eventlog.Entry) (r resting, ok bool, err error) {
	r.index, r.kind = e.Index, e.Kind
	defer release(&e.Section)
	if e.Kind != chain.KindBlockCommitted && e.Kind != chain.KindOrderDecided {
		if err := whole(&e); err != nil {
			return r, false, err
		}
	}

	switch e.Kind {
	case chain.KindBlockCommitted:
		data := section(readerAt(e.Data))
		if e.Section != nil {
			data = e.Section
		}
		c, err := readCommitted(data)
		return resting{e.Index, c.chainID, c.at, c.blockHash, c.appHash, e.Kind}, err == nil, err

	case chain.KindChainStarted:
		m := new(logv1.ChainStarted)
		err = proto.Unmarshal(e.Data, m)
		r.chainID, r.at, r.appHash = m.ChainId, startOf(m), m.AppHash

	case chain.KindSnapshotInstalled:
		m := new(logv1.SnapshotInstalled)
		err = proto.Unmarshal(e.Data, m)
		r.chainID, r.at, r.appHash = m.ChainId, Position{m.Period, m.Height}, m.AppHash

	case chain.KindBase:
		m := new(logv1.Base)
		err = proto.Unmarshal(e.Data, m)
		r.chainID, r.at, r.appHash = m.ChainId, Position{m.Period, m.Height}, m.AppHash

	default:
		return r, false, nil
	}

	return r, err == nil, err
}

// restingFrom returns the first record from an index on on which a cursor may rest; ok is false if
// the log has none.
func restingFrom(ctx context.Context, log Log, from uint64) (r resting, ok bool, err error) {
	cur, err := log.Cursor(ctx, from)
	if err != nil {
		return r, false, err
	}
	defer cur.Close()
	cur.Sections(maxInMemory)

	for {
		e, more, err := cur.TryNext()
		gap := new(eventlog.CorruptError)
		if errors.As(err, &gap) && gap.Gap && gap.Lost > 0 {
			return restingFrom(ctx, log, gap.Index+gap.Lost)
		}
		if err != nil || !more {
			return r, false, err
		}
		if r, ok, err := restingOf(e); err != nil || ok {
			return r, ok, err
		}
	}
}

// locate returns the record of the log on which a cursor rests. Positions in the log only grow, so
// it searches by halves. For an empty cursor it returns the record before the one that begins the
// chain. Truncation may have removed the record itself: then the log must go on with the next unit,
// and the cursor must be known, the one that this node saw acknowledged. Its errors have the
// classes Foreign, Ahead and GapInLog.
func locate(ctx context.Context, log Log, c, known Cursor) (index uint64, err error) {
	st, err := log.Stat(ctx)
	if err != nil {
		return 0, err
	}
	first, ok, err := restingFrom(ctx, log, st.First)
	if err != nil {
		return 0, err
	}

	switch {
	case c.Empty() && !ok:
		return st.First - 1, nil // the chain has not started
	case c.Empty() && first.isStart():
		return first.index - 1, nil
	case c.Empty():
		return 0, first.hole(st.First, "the sink is empty, and the log begins at height "+first.at.String())
	case !ok:
		return 0, Fail(Ahead, fmt.Errorf("the sink stands at %s, and the log has no block", c))
	case c.Position.Compare(first.at) < 0:
		return before(c, known, st.First, first)
	}

	// The answer lies in [low, high): low leads to a position not after the cursor's.
	found, low, high := first, first.index, st.Durable+1
	for low+1 < high {
		mid := low + (high-low)/2
		r, ok, err := restingFrom(ctx, log, mid)
		if err != nil {
			return 0, err
		}
		if !ok || r.index >= high || r.at.Compare(c.Position) > 0 {
			high = mid
			continue
		}
		found, low = r, r.index
	}

	if found.at.Compare(c.Position) < 0 && len(c.AppHash) == 0 {
		if index, ok, err := onGap(ctx, log, found.index, c.Position); ok || err != nil {
			return index, err
		}
	}

	return found.index, c.agrees(found)
}

// onGap returns the last record of a gap in the log, if a cursor at a position rests on it: the gap
// comes after a record, and the next unit behind the gap is the one after the position.
func onGap(ctx context.Context, log Log, after uint64, at Position) (index uint64, ok bool, err error) {
	next, ok, err := restingFrom(ctx, log, after+1)
	if err != nil || !ok {
		return 0, false, err
	}
	block := next.kind == chain.KindBlockCommitted && next.at == Position{at.Period, at.Height + 1}
	start := next.kind == chain.KindChainStarted && next.at.Period == at.Period+1
	if !block && !start {
		return 0, false, nil
	}

	cur, err := log.Cursor(ctx, after+1)
	if err != nil {
		return 0, false, err
	}
	defer func() { cur.Close() }()
	for {
		e, more, err := cur.TryNext()
		gap := new(eventlog.CorruptError)
		switch {
		case errors.As(err, &gap) && gap.Gap && gap.Lost > 0:
			return gap.Index + gap.Lost - 1, true, nil
		case err != nil || !more || e.Index >= next.index:
			return 0, false, err
		}
	}
}

// isStart reports whether the record begins a chain that no other preceded.
func (r resting) isStart() bool { return r.kind == chain.KindChainStarted && r.at.Period == 0 }

// hole returns the error of a log that begins with this record. If it is a block's, the block
// itself is there, and what lacks ends one height before it.
func (r resting) hole(oldest uint64, what string) error {
	h := &hole{index: r.index, at: r.at, chainID: r.chainID, appHash: r.appHash, what: what}
	if r.kind == chain.KindBlockCommitted {
		h.index, h.at.Height, h.appHash = oldest-1, r.at.Height-1, nil
	}
	return h
}

// before is locate for a cursor below the first record on which one rests.
func before(c, known Cursor, oldest uint64, first resting) (uint64, error) {
	next := first.kind == chain.KindBlockCommitted && first.at == Position{c.Period, c.Height + 1} ||
		first.kind == chain.KindChainStarted && first.at.Period == c.Period+1
	switch {
	case !next:
		return 0, first.hole(oldest, fmt.Sprintf("the sink stands at height %s, and the log begins at height %s",
			c.Position, first.at))
	case !c.SameUnit(known):
		return 0, Fail(GapInLog, fmt.Errorf("the sink stands at height %s, and the log no longer has the record by "+
			"which its hashes could be compared; it begins at height %s", c.Position, first.at))
	}
	return oldest - 1, nil
}

// agrees returns an error if the unit at which the log stands is not the cursor's.
func (c Cursor) agrees(r resting) error {
	switch {
	case r.at != c.Position && chain.NameOf(c.ChainID, c.Period) != chain.NameOf(r.chainID, r.at.Period):
		return Fail(Foreign, fmt.Errorf("the sink is of chain %q, the log of %q", c.ChainID, r.chainID))
	case r.at != c.Position:
		return Fail(Ahead, fmt.Errorf("the sink stands at height %s, the log at %s", c.Position, r.at))
	case r.chainID != c.ChainID:
		return Fail(Foreign, fmt.Errorf("the sink is of chain %q, the log has %q at height %s", c.ChainID, r.chainID,
			r.at))
	case !bytes.Equal(r.appHash, c.AppHash):
		return Fail(Foreign, fmt.Errorf("at height %s the sink has app hash %x, the log %x", r.at, c.AppHash,
			r.appHash))
	case len(r.blockHash) > 0 && len(c.BlockHash) > 0 && !bytes.Equal(r.blockHash, c.BlockHash):
		return Fail(Foreign, fmt.Errorf("at height %s the sink has block %x, the log %x", r.at, c.BlockHash,
			r.blockHash))
	}
	return nil
}
