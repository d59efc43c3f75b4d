package storage

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/apphash"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Builder makes a state of the keys and ids that another one had at a height. Until Finish has
// returned what it builds is no state: it opens as one in which no chain has started. It is for one
// goroutine at a time.
type Builder struct {
	d  *DB
	at BlockMeta
	b  *pebble.Batch

	acc       apphash.Accumulator
	keys, ids uint64
	last      []byte // the key or id before
}

// buildBatch is about how many bytes go into one batch.
const buildBatch = 1 << 20

// NewBuilder begins a state in dir, which must not exist, as of a block: period, height, hash, time
// and app hash count. Its keys have that block's version, and nothing below its height can be read.
func NewBuilder(dir string, o Options, at BlockMeta) (*Builder, error) {
	o.ReadOnly = false
	d, err := Open(dir, o)
	if err != nil {
		return nil, err
	}

	if s := d.State(); s.Started() {
		return nil, errors.Join(fmt.Errorf("state %s: %w: there is one already, at height %d", dir, ErrBuild, s.Height),
			d.Close())
	}

	return &Builder{d: d, at: at, b: d.pdb.NewBatch()}, nil
}

// Key adds a latest key with its value. Keys come before ids, in the order of their bytes. Errors:
// ErrBuild, errFailed.
func (b *Builder) Key(key, value []byte) error {
	switch {
	case len(key) == 0 || len(key) > chain.MaxKeyBytes:
		return fmt.Errorf("%w: a key of %d bytes, want 1 to %d", ErrBuild, len(key), chain.MaxKeyBytes)
	case len(value) > chain.MaxValueBytes:
		return fmt.Errorf("%w: key %q has a value of %d bytes, want at most %d", ErrBuild, clip(key), len(value),
			chain.MaxValueBytes)
	case b.ids > 0 || bytes.Compare(b.last, key) >= 0:
		return fmt.Errorf("%w: key %q comes after %q, want the order of their bytes, and ids after all keys", ErrBuild,
			clip(key), clip(b.last))
	}

	v := chain.Version{Period: b.at.Period, Height: b.at.Height}
	b.b.Set(latestKey(key), latest{version: v, value: value}.encode(make([]byte, 0, chain.VersionSize+len(value))),
		nil)
	b.acc.Add(b.d.hasher.Key(key, value))
	b.keys++
	b.last = append(b.last[:0], key...)

	return b.flush(buildBatch)
}

// ID adds the result of an applied transaction whose id is remembered, in the order of the ids.
// Errors: ErrBuild, errFailed.
func (b *Builder) ID(r *logv1.TxResult) error {
	if _, err := chain.TxIDFromBytes(r.Id); err != nil {
		return fmt.Errorf("%w: %w", ErrBuild, err)
	}
	if b.ids > 0 && bytes.Compare(b.last, r.Id) >= 0 {
		return fmt.Errorf("%w: id %x comes after %x, want the order of their bytes", ErrBuild, clip(r.Id), clip(b.last))
	}
	raw, err := proto.Marshal(r)
	if err != nil {
		return fmt.Errorf("%w: result of %x: %w", ErrBuild, r.Id, err)
	}

	leaf := b.d.hasher.ID(r)
	b.b.Set(appliedKey(r.Id), raw, nil)
	b.b.Set(expiryKey(r.ValidUntilMs, r.Id), leaf[:], nil)
	b.acc.Add(leaf)
	b.ids++
	b.last = append(b.last[:0], r.Id...)

	return b.flush(buildBatch)
}

// flush applies the batch once it is as large as that.
func (b *Builder) flush(size int) error {
	if b.b.Len() < size {
		return nil
	}
	err := b.d.commit(b.b, "building")
	b.b = b.d.pdb.NewBatch()
	return err
}

// Finish makes what was added a state of the chain, at the block that NewBuilder was told of, and
// closes it: durable, with an applied index of 0 and no log (see DB.Adopt). clock is the latest
// block time ever committed. Errors: ErrAppHash when the keys and ids do not give the block's app
// hash, ErrChain, errFailed. After an error there is no state, and Abort is to be called.
func (b *Builder) Finish(chain *logv1.ChainStarted, clock time.Time) error {
	if err := checkChain(chain); err != nil {
		return err
	}

	if chain.Period != b.at.Period || b.at.Height < max(chain.InitialHeight, 1) {
		return fmt.Errorf("%w: block %d of period %d, and %s (period %d) begins at %d", ErrChain, b.at.Height,
			b.at.Period, chain.ChainId, chain.Period, chain.InitialHeight)
	}

	if hash := b.acc.Hash(b.at.Period); !bytes.Equal(hash, b.at.AppHash) {
		return fmt.Errorf("%w: %d keys and %d ids give %x, block %d has %x", ErrAppHash, b.keys, b.ids, hash,
			b.at.Height, b.at.AppHash)
	}

	raw, err := proto.Marshal(chain)
	if err != nil {
		return fmt.Errorf("chain %s: %w", chain.ChainId, err)
	}

	next := record{
		ChainID: chain.ChainId, Period: b.at.Period, InitialHeight: chain.InitialHeight, Height: b.at.Height,
		BlockHash: b.at.Hash,
		TimeNs:    b.at.Time.UnixNano(), AppHash: b.at.AppHash, ClockNs: clock.UnixNano(), Keys: b.keys, IDs: b.ids,
	}
	meta := b.at
	meta.Index = 0
	b.b.Set(heightKey(spaceBlock, b.at.Period, b.at.Height), meta.encode(), nil)
	b.b.Set(metaPruned, place{b.at.Period, b.at.Height}.encode(), nil)
	b.b.Set(metaChain, raw, nil)
	b.b.Set(metaAccumulator, b.acc.AppendBinary(nil), nil)
	b.b.Set(metaState, next.encode(), nil)
	if err := b.flush(0); err != nil {
		return err
	}
	if _, err := b.d.Flush(); err != nil {
		return err
	}

	return b.close()
}

func (b *Builder) close() error {
	d, batch := b.d, b.b
	if d == nil {
		return nil
	}
	b.d, b.b = nil, nil
	return errors.Join(batch.Close(), d.Close())
}

// Abort gives up what was built; its directory is the caller's to remove. After Finish it does
// nothing.
func (b *Builder) Abort() error { return b.close() }
