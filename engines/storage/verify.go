package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/apphash"
)

// VerifyScan reads the whole latest state and recomputes the app hash (I3 in docs/architecture.md).
// Of a state that is open for reading only, it also checks every byte of every table, with the
// older versions; a state that is open for writing replaces its tables meanwhile. It returns nil if
// it finds no damage. Otherwise it returns an error of class ErrDamaged that
// names the differences: invalid entries, by key or id, and whether keys or ids were lost, added or
// altered. progress, which may be nil, is called from time to time with the number of leaves that
// are done and their total. VerifyScan works on a snapshot, beside commits.
func (d *DB) VerifyScan(ctx context.Context, progress func(done, total uint64)) error {
	s, err := d.reader()
	if err != nil {
		return err
	}
	defer s.Close()

	v := verifier{Reader: s, ctx: ctx, progress: progress, hasher: apphash.NewHasher()}
	if d.o.ReadOnly {
		if err := d.verifyTables(v.step); err != nil {
			return err
		}
	}

	if s.now.chain == nil {
		return nil
	}

	for _, step := range []func() error{v.keys, v.ids, v.expiry, v.sums} {
		if err := step(); err != nil {
			return fmt.Errorf("state %s: %w", d.dir, errors.Join(append(v.found, err)...))
		}
	}

	if len(v.found) > 0 {
		return fmt.Errorf("state %s: %w", d.dir, errors.Join(v.found...))
	}

	return nil
}

// verifier is the state of one running VerifyScan.
type verifier struct {
	*Reader
	ctx      context.Context
	progress func(done, total uint64)
	hasher   *apphash.Hasher

	acc           apphash.Accumulator
	nKeys, nIDs   uint64
	found         []error // findings, at most maxFindings
	withheldFinds int
}

const maxFindings = 20

func (v *verifier) finding(format string, args ...any) {
	if len(v.found) >= maxFindings {
		v.withheldFinds++
		return
	}
	v.found = append(v.found, fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...))
}

// step reports progress and returns the cause if the context has ended.
func (v *verifier) step() error {
	if done := v.nKeys + v.nIDs; done%4096 == 0 {
		if v.progress != nil {
			v.progress(done, v.now.Keys+v.now.IDs)
		}
		if v.ctx.Err() != nil {
			return context.Cause(v.ctx)
		}
	}
	return nil
}

// last returns the newest version that an entry of the state can have.
func (v *verifier) last() chain.Version {
	return chain.Version{Period: v.now.Period, Height: v.now.Height, Index: math.MaxUint32}
}

func (v *verifier) keys() error {
	for e, err := range v.withPrefix(nil) {
		if err != nil {
			return err
		}
		if len(e.Key) == 0 {
			v.finding("there is an empty key")
		}

		if e.Version.Compare(v.last()) > 0 {
			v.finding("key %q was written at %v, after the last committed block, %d/%d", clip(e.Key), e.Version,
				v.now.Period, v.now.Height)
		}

		v.acc.Add(v.hasher.Key(e.Key, e.Value))
		v.nKeys++
		if err := v.step(); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) ids() error {
	oldest := ceilMs(v.now.ClockNs)
	for r, err := range v.allIDs() {
		if err != nil {
			return err
		}

		if at := chain.VersionFromProto(r.Version); at.Compare(v.last()) > 0 {
			v.finding("transaction %x was applied at %v, after the last committed block, %d/%d", r.Id, at, v.now.Period,
				v.now.Height)
		}

		if r.ValidUntilMs < oldest {
			v.finding("transaction %x has expired and should be forgotten: valid until %v", r.Id,
				timeMs(r.ValidUntilMs))
		}

		leaf := v.hasher.ID(r)

		switch at, found, err := v.get(expiryKey(r.ValidUntilMs, r.Id)); {
		case err != nil:
			return err
		case !found:
			v.finding("transaction %x would never be forgotten: it has no expiry entry at %v", r.Id,
				timeMs(r.ValidUntilMs))
		case !bytes.Equal(at, leaf[:]):
			v.finding("transaction %x: its expiry entry has leaf %x, its result gives %x", r.Id, at, leaf)
		}

		v.acc.Add(leaf)
		v.nIDs++
		if err := v.step(); err != nil {
			return err
		}
	}

	return nil
}

// expiry looks for expiry entries whose id has no result.
func (v *verifier) expiry() (err error) {
	v.scan([]byte{spaceExpiry}, after([]byte{spaceExpiry}), func(key, value []byte) bool {
		var until int64
		var id []byte
		if until, id, _, err = decodeExpiry(key, value); err != nil {
			return false
		}
		var found bool
		if _, found, err = v.get(appliedKey(id)); err != nil {
			return false
		}
		if !found {
			v.finding("transaction %x has an expiry entry at %v and no result", id, timeMs(until))
		}

		return true
	}, func(e error) { err = e })
	return err
}

// sums compares the counts and the sum of the scan with the recorded ones.
func (v *verifier) sums() error {
	for _, c := range []struct {
		what           string
		have, recorded uint64
	}{{"latest keys", v.nKeys, v.now.Keys}, {"applied ids", v.nIDs, v.now.IDs}} {
		switch {
		case c.have < c.recorded:
			v.finding("%d of %d %s are missing", c.recorded-c.have, c.recorded, c.what)
		case c.have > c.recorded:
			v.finding("%d %s too many, want %d", c.have-c.recorded, c.what, c.recorded)
		}
	}

	if hash := v.acc.Hash(v.now.Period); !bytes.Equal(hash, v.now.AppHash) {
		v.finding("the %d keys and %d ids give app hash %x, the state at height %d records %x: entries were altered, "+
			"lost or added",
			v.nKeys, v.nIDs, hash, v.now.Height, v.now.AppHash)
	}

	if v.now.Height > 0 {
		switch b, found, err := v.get(heightKey(spaceBlock, v.now.Period, v.now.Height)); {
		case err != nil:
			return err

		case !found:
			v.finding("the entry of the last block, %d, is missing", v.now.Height)

		default:
			m, err := decodeBlockMeta(v.now.Period, v.now.Height, b)
			if err != nil {
				return err
			}

			if !bytes.Equal(m.AppHash, v.now.AppHash) || !bytes.Equal(m.Hash, v.now.BlockHash) ||
				m.Index != v.now.Index {
				v.finding("the entry of the last block, %d, is of block %x with app hash %x, the state is "+
					"at %x with %x", v.now.Height, m.Hash, m.AppHash, v.now.BlockHash, v.now.AppHash)
			}
		}
	}

	if v.withheldFinds > 0 {
		v.found = append(v.found, fmt.Errorf("%w: %d more findings", ErrDamaged, v.withheldFinds))
	}

	return nil
}
