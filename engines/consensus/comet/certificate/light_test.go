package certificate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto/tmhash"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/storage/apphash"
)

// after returns a block of the chain of an epoch, which more than two thirds of q have signed.
func (q quorum) after(t *testing.T, epoch uint64, height int64, last *types.LightBlock, edit func(*types.Header),
) *types.LightBlock {
	t.Helper()
	return q.block(t, height, last, tmhash.Sum(nil), len(q.keys), func(h *types.Header) {
		h.ChainID = chain.EpochID("test", epoch)
		if edit != nil {
			edit(h)
		}
	})
}

// resets returns what is kept of a chain with so many resets. The validators are q[epoch] in each
// epoch, and change to those of the next one before its end.
func resets(t *testing.T, sets []quorum) (epochs []Epoch) {
	t.Helper()
	start, before := time.Time{}, []byte(nil)

	for n, q := range sets {
		e := uint64(n)
		base := int64(1 + 100*n)
		first := q.after(t, e, base, nil, func(h *types.Header) {
			if n > 0 {
				h.AppHash, h.Time = apphash.Of(before, e), start
			}
		})
		epoch := Epoch{Number: e, First: first}

		if n+1 < len(sets) {
			next := sets[n+1]
			root := tmhash.Sum(fmt.Appendf(nil, "state after epoch %d", n))

			// The set of F names the next one, and the held block is signed by the next set.
			decided := q.after(t, e, base+50, nil, func(h *types.Header) { h.NextValidatorsHash = next.set.Hash() })
			held := next.after(t, e, base+51, decided, func(h *types.Header) { h.AppHash = apphash.Of(root, e) })
			epoch.End = &Certificate{decided, held, next.set, root}
			before, start = root, decided.Time
		}
		epochs = append(epochs, epoch)
	}

	return epochs
}

// A light client that trusts block 1 of epoch 0 comes to the first block of epoch 5, and so does
// one that trusts any other block that is kept. Items 42 and 41: a forged sequence of certificates
// is refused by name.
func TestTrustGoesOverResets(t *testing.T) {
	var sets []quorum
	for n := range 6 {
		sets = append(sets, newQuorum(3+n%3))
	}
	epochs := resets(t, sets)
	var client Client
	require.NoError(t, CheckAll("test", epochs))

	for _, e := range epochs {
		for _, b := range e.blocks() {
			trust, err := Find(epochs, b.Height, b.Hash())
			require.NoError(t, err)
			begins, err := client.Carry(trust, epochs)
			require.NoError(t, err, "from block %d", b.Height)
			require.Len(t, begins, 5-int(e.Number))
			for i, begin := range begins {
				require.Same(t, epochs[int(e.Number)+1+i].First, begin.Block)
			}
		}
	}

	trust := Trust{Block: epochs[0].First}
	old := Client{Period: time.Hour}
	_, err := old.Carry(trust, epochs)
	require.ErrorIs(t, err, ErrTrust)
	require.ErrorContains(t, err, "want at most 1h0m0s")

	// One change for each forgery. The forgers are no more than a third of the validators.
	forger, signed := newQuorum(7), func(b *types.LightBlock, n int) *types.LightBlock {
		c := *b.Commit
		c.Signatures = slices.Clone(c.Signatures)
		for i := range c.Signatures[n:] {
			c.Signatures[n+i] = types.NewCommitSigAbsent()
		}
		return &types.LightBlock{SignedHeader: &types.SignedHeader{Header: b.Header, Commit: &c},
			ValidatorSet: b.ValidatorSet}
	}

	for what, c := range map[string]struct {
		forge func(e []Epoch) []Epoch
		fault error
		want  string
	}{
		"wrong root": {func(e []Epoch) []Epoch { e[2].End.Root = tmhash.Sum(nil); return e }, ErrRoot, "epoch 2"},
		"wrong set": {func(e []Epoch) []Epoch { e[2].End.After = forger.set; return e }, ErrSet,
			"after block 252"},
		"wrong set of the next epoch": {func(e []Epoch) []Epoch {
			e[3].First = &types.LightBlock{SignedHeader: e[3].First.SignedHeader, ValidatorSet: forger.set}
			return e
		}, ErrSet, "block 301"},
		"an epoch of strangers": {func(e []Epoch) []Epoch {
			e[3].First = forger.after(t, 3, 301, nil, nil)
			return e
		}, ErrSet, "after block 252"},
		"wrong F": {func(e []Epoch) []Epoch {
			e[2].End.Decided = sets[2].after(t, 2, 251, nil, nil)
			return e
		}, ErrBlock, "block 252 follows"},
		"F of strangers": {func(e []Epoch) []Epoch {
			f := forger.after(t, 2, 251, nil, nil)
			h := forger.after(t, 2, 252, f, func(h *types.Header) { h.AppHash = apphash.Of(e[2].End.Root, 2) })
			*e[2].End = Certificate{f, h, forger.set, e[2].End.Root}
			return e
		}, ErrSignatures, "validators of block 201"},
		"too few signatures of F": {func(e []Epoch) []Epoch {
			e[2].End.Decided = signed(e[2].End.Decided, 2)
			return e
		}, ErrSignatures, "block 251"},
		"too few signatures of F+1": {func(e []Epoch) []Epoch {
			e[2].End.Held = signed(e[2].End.Held, 1)
			return e
		}, ErrSignatures, "block 252"},
		"too few signatures of the first block": {func(e []Epoch) []Epoch {
			e[3].First = signed(e[3].First, 1)
			return e
		}, ErrSignatures, "block 301"},
		"no reset at that height": {func(e []Epoch) []Epoch { // a true certificate of a block before F
			f := sets[2].after(t, 2, 230, nil, func(h *types.Header) { h.NextValidatorsHash = sets[3].set.Hash() })
			root := tmhash.Sum([]byte("an earlier state"))
			h := sets[3].after(t, 2, 231, f, func(h *types.Header) { h.AppHash = apphash.Of(root, 2) })
			*e[2].End = Certificate{f, h, sets[3].set, root}
			return e
		}, ErrNoReset, "the state after block 230"},
		"another time": {func(e []Epoch) []Epoch {
			e[3].First = sets[3].after(t, 3, 301, nil, func(h *types.Header) {
				h.AppHash = e[3].First.AppHash
			})
			return e
		}, ErrNoReset, "test-3 begins at"},
		"a later block of the epoch": {func(e []Epoch) []Epoch {
			e[3].First = sets[3].after(t, 3, 302, e[3].First, nil)
			return e
		}, ErrBlock, "block 302 of test-3 is not the first one"},
		"another epoch's block": {func(e []Epoch) []Epoch {
			e[3].First = sets[3].after(t, 4, 301, nil, nil)
			return e
		}, ErrBlock, `of chain "test-4"`},
		"missing epoch":       {func(e []Epoch) []Epoch { return slices.Delete(e, 3, 4) }, ErrMissing, "ended epoch 2"},
		"missing certificate": {func(e []Epoch) []Epoch { e[3].End = nil; return e }, ErrMissing, "ended epoch 3"},
		"missing first block": {func(e []Epoch) []Epoch { e[3].First = nil; return e }, ErrMissing, "at height 251"},
		"missing end":         {func(e []Epoch) []Epoch { return e[:5] }, ErrMissing, "epoch 5"},
	} {
		_, err := client.Carry(trust, c.forge(resets(t, sets)))
		require.ErrorIs(t, err, ErrCertificate, what)
		require.ErrorIs(t, err, c.fault, what)
		require.ErrorContains(t, err, c.want, what)
	}
}

// Only a block that is kept, with its own hash, can be the beginning.
func TestTheTrustedBlockMustBeKept(t *testing.T) {
	epochs := resets(t, []quorum{newQuorum(3), newQuorum(4)})
	_, err := Find(epochs, 2, nil)
	require.ErrorContains(t, err, "block 2 is not kept, want one of the blocks 1, 51, 52, 101")
	_, err = Find(epochs, 51, tmhash.Sum(nil))
	require.ErrorIs(t, err, ErrTrust)
	require.ErrorContains(t, err, "block 51 has the hash")
	_, err = Find(nil, 1, nil)
	require.ErrorContains(t, err, "(there are none)")

	// The end of an epoch does not follow from a block of it that another chain has.
	another := Trust{Block: newQuorum(5).after(t, 0, 51, nil, nil)}
	_, err = Client{}.Carry(another, epochs)
	require.ErrorContains(t, err, "want the trusted")
	_, err = Client{}.Carry(Trust{Block: newQuorum(5).after(t, 0, 60, nil, nil)}, epochs)
	require.ErrorContains(t, err, "the certificate says that the epoch ended with 52")
}

// If the validators have all changed on the way, blocks between lead there, and only those.
func TestTheWayHasBlocksBetween(t *testing.T) {
	sets := []quorum{newQuorum(3), newQuorum(4), newQuorum(5)}
	at := func(_ context.Context, height int64) (*types.LightBlock, error) {
		now, next := min(height/30, 2), min((height+1)/30, 2)
		return sets[now].after(t, 0, height, nil, func(h *types.Header) {
			h.NextValidatorsHash = sets[next].set.Hash()
		}), nil
	}
	from, err := at(t.Context(), 1)
	require.NoError(t, err)
	to, err := at(t.Context(), 80)
	require.NoError(t, err)

	var client Client
	way, err := client.Way(t.Context(), from, to, at)
	require.NoError(t, err)
	require.NotEmpty(t, way)
	require.Less(t, len(way), 30, "not every block is needed")

	held := sets[2].after(t, 0, 81, to, func(h *types.Header) { h.AppHash = apphash.Of(nil, 0) })
	e := Epoch{First: from, Way: way, End: &Certificate{to, held, sets[2].set, nil}}
	begin := sets[2].after(t, 1, 101, nil, func(h *types.Header) { h.AppHash, h.Time = apphash.Of(nil, 1), to.Time })
	epochs := []Epoch{e, {Number: 1, First: begin}}
	_, err = client.Carry(Trust{Block: from}, epochs)
	require.NoError(t, err)
	_, err = client.Carry(Trust{Block: way[0]}, epochs)
	require.NoError(t, err)

	epochs[0].Way = nil
	_, err = client.Carry(Trust{Block: from}, epochs)
	require.ErrorIs(t, err, ErrSignatures)

	gone := errors.New("the block is gone")
	_, err = client.Way(t.Context(), from, to, func(context.Context, int64) (*types.LightBlock, error) {
		return nil, gone
	})
	require.ErrorIs(t, err, gone)
	_, err = client.Way(t.Context(), from, to, func(context.Context, int64) (*types.LightBlock, error) {
		return from, nil
	})
	require.ErrorContains(t, err, "asked for block 40, got 1")
}

// What is kept comes back from its files, and what cannot be read is named.
func TestProofsAreFiles(t *testing.T) {
	home := t.TempDir()
	dir := comethome.CertificateDir(home)
	none, err := Load(dir)
	require.NoError(t, err)
	require.Empty(t, none)

	epochs := resets(t, []quorum{newQuorum(3), newQuorum(4), newQuorum(3)})
	epochs[0].Way = []*types.LightBlock{epochs[0].End.Decided}
	for _, e := range epochs {
		first, err := EncodeBlock(e.First)
		require.NoError(t, err)
		require.NoError(t, comethome.FirstBlock.Write(home, e.Number, first))
		if e.End != nil {
			b, err := e.End.Encode()
			require.NoError(t, err)
			require.NoError(t, comethome.Certificate.Write(home, e.Number, b))
		}
	}
	way, err := EncodeWay(epochs[0].Way)
	require.NoError(t, err)
	require.NoError(t, comethome.Way.Write(home, 0, way))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "epoch-01"), nil, 0o600)) // not one of ours

	read, err := Load(dir)
	require.NoError(t, err)
	require.Len(t, read, 3)
	require.Equal(t, epochs[0].Way[0].Hash(), read[0].Way[0].Hash())
	begins, err := Client{}.Carry(Trust{Block: read[0].First}, read)
	require.NoError(t, err)
	require.Equal(t, epochs[2].First.Hash(), begins[1].Block.Hash())

	names, err := comethome.ProofFiles(home)
	require.NoError(t, err)
	require.Equal(t, []string{"epoch-0", "epoch-1", "first-0", "first-1", "first-2", "way-0"}, names)

	for _, name := range names {
		path := filepath.Join(dir, name)
		was, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, was[:len(was)-3], 0o600))
		_, err = Load(dir)
		require.ErrorIs(t, err, ErrForm, name)
		require.ErrorContains(t, err, path)
		require.NoError(t, os.WriteFile(path, was, 0o600))
	}
}
