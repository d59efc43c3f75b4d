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

// Builder builds a state from the keys and ids that another state had at a height. Until Finish
// returns, the directory does not hold that state: it opens as a state in which no chain has
// started. Only one goroutine may use a Builder at a time.
type Builder struct {
	d  *DB
	at BlockMeta
	b  *pebble.Batch

	acc       apphash.Accumulator
	keys, ids uint64
	last      []byte // the key or id that was added last
}

// buildBatch is the approximate size of one batch in bytes.
const buildBatch = 1 << 20

// NewBuilder begins a state in dir, which must not exist. The state is that after block at, of
// which NewBuilder uses the period, height, hash, time and app hash. The keys of the state have the
// version of that block, and no height below it can be read.
func NewBuilder(dir string, o Options, at BlockMeta) (*Builder, error) {
	o.ReadOnly = false
	d, err := Open(dir, o)
	if err != nil {
		return nil, err
	}

	if s := d.State(); s.Started() {
		err := fmt.Errorf("state %s: %w: a state at height %d is already there", dir, ErrBuild, s.Height)
		return nil, errors.Join(err, d.Close())
	}

	return &Builder{d: d, at: at, b: d.pdb.NewBatch()}, nil
}

// Key adds a latest key with its value. The keys must be added before the ids, in byte order.
// Errors: ErrBuild, errFailed.
func (b *Builder) Key(key, value []byte) error {
	switch {
	case len(key) == 0 || len(key) > chain.MaxKeyBytes:
		return fmt.Errorf("%w: key has %d bytes, want 1 to %d", ErrBuild, len(key), chain.MaxKeyBytes)
	case len(value) > chain.MaxValueBytes:
		return fmt.Errorf("%w: key %q has a value of %d bytes, want at most %d", ErrBuild, clip(key), len(value),
			chain.MaxValueBytes)
	case b.ids > 0 || bytes.Compare(b.last, key) >= 0:
		return fmt.Errorf("%w: key %q was added after %q, want keys in byte order and before all ids", ErrBuild,
			clip(key), clip(b.last))
	}

	v := chain.Version{Period: b.at.Period, Height: b.at.Height}
	b.b.Set(latestKey(key), latest{version: v, value: value}.encode(make([]byte, 0, chain.VersionSize+len(value))),
		nil)
	b.acc.Add(b.d.keyHasher.Key(key, value))
	b.keys++
	b.last = append(b.last[:0], key...)

	return b.flush(buildBatch)
}

// ID adds the result of an applied transaction whose id is remembered. The ids must be added in
// byte order. Errors: ErrBuild, errFailed.
func (b *Builder) ID(r *logv1.TxResult) error {
	if _, err := chain.TxIDFromBytes(r.Id); err != nil {
		return fmt.Errorf("%w: %w", ErrBuild, err)
	}
	if b.ids > 0 && bytes.Compare(b.last, r.Id) >= 0 {
		return fmt.Errorf("%w: id %x was added after %x, want ids in byte order", ErrBuild, clip(r.Id), clip(b.last))
	}
	raw, err := proto.Marshal(r)
	if err != nil {
		return fmt.Errorf("%w: result of %x: %w", ErrBuild, r.Id, err)
	}

	leaf := b.d.idHasher.ID(r)
	b.b.Set(appliedKey(r.Id), raw, nil)
	b.b.Set(expiryKey(r.ValidUntilMs, r.Id), leaf[:], nil)
	b.acc.Add(leaf)
	b.ids++
	b.last = append(b.last[:0], r.Id...)

	return b.flush(buildBatch)
}

// flush applies the batch once it has at least size bytes.
func (b *Builder) flush(size int) error {
	if b.b.Len() < size {
		return nil
	}
	err := b.d.commit(b.b, "building")
	b.b = b.d.pdb.NewBatch()
	return err
}

// Finish makes the added keys and ids the state of the chain at the block that was given to
// NewBuilder, and closes the state. It is then durable, with an applied index of 0, and bound to no
// log (see DB.Adopt). clock is the latest block time ever committed. Errors: ErrAppHash when the
// keys and ids do not give the block's app hash, ErrChain, errFailed. After an error there is no
// state, and the caller must call Abort.
func (b *Builder) Finish(chain *logv1.ChainStarted, clock time.Time) error {
	if err := checkChain(chain); err != nil {
		return err
	}

	if chain.Period != b.at.Period || b.at.Height < max(chain.InitialHeight, 1) {
		return fmt.Errorf("%w: block %d of period %d is not in %s (period %d), which begins at height %d", ErrChain,
			b.at.Height, b.at.Period, chain.ChainId, chain.Period, chain.InitialHeight)
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

// Abort discards what was built. The caller removes the directory. After Finish, Abort does
// nothing.
func (b *Builder) Abort() error { return b.close() }
