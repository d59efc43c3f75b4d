package certificate

import (
	"fmt"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/crypto/tmhash"
	cmtversion "github.com/cometbft/cometbft/proto/tendermint/version"
	"github.com/cometbft/cometbft/types"
	"github.com/cometbft/cometbft/version"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/apphash"
)

// quorum is a validator set whose keys sign blocks.
type quorum struct {
	set  *types.ValidatorSet
	keys map[string]ed25519.PrivKey
}

func newQuorum(n int) quorum {
	q := quorum{keys: make(map[string]ed25519.PrivKey)}
	var members []*types.Validator
	for i := range n {
		key := ed25519.GenPrivKeyFromSecret(fmt.Appendf(nil, "validator %d of %d", i, n))
		members = append(members, types.NewValidator(key.PubKey(), 10))
		q.keys[string(key.PubKey().Address())] = key
	}
	q.set = types.NewValidatorSet(members)
	return q
}

// block returns a signed block after last, which so many of the members have signed.
func (q quorum) block(t *testing.T, height int64, last *types.LightBlock, app []byte, signed int,
	edit func(*types.Header)) *types.LightBlock {
	t.Helper()
	h := &types.Header{
		Version: cmtversion.Consensus{Block: version.BlockProtocol}, ChainID: "test", Height: height,
		Time: time.Unix(1000+height, 0).UTC(), ValidatorsHash: q.set.Hash(), NextValidatorsHash: q.set.Hash(),
		ConsensusHash: tmhash.Sum(nil), AppHash: app, LastCommitHash: tmhash.Sum(nil), DataHash: tmhash.Sum(nil),
		LastResultsHash: tmhash.Sum(nil), EvidenceHash: tmhash.Sum(nil), ProposerAddress: q.set.Validators[0].Address,
	}
	if last != nil {
		h.LastBlockID = last.Commit.BlockID
	}
	if edit != nil {
		edit(h)
	}

	c := &types.Commit{Height: height, BlockID: types.BlockID{Hash: h.Hash(),
		PartSetHeader: types.PartSetHeader{Total: 1, Hash: tmhash.Sum(nil)}}}
	for i, v := range q.set.Validators {
		sig := types.NewCommitSigAbsent()
		if i < signed {
			sig = types.CommitSig{BlockIDFlag: types.BlockIDFlagCommit, ValidatorAddress: v.Address, Timestamp: h.Time}
		}
		c.Signatures = append(c.Signatures, sig)
	}
	for i, v := range q.set.Validators[:signed] {
		sig, err := q.keys[string(v.Address)].Sign(c.VoteSignBytes(h.ChainID, int32(i)))
		require.NoError(t, err)
		c.Signatures[i].Signature = sig
	}

	return &types.LightBlock{SignedHeader: &types.SignedHeader{Header: h, Commit: c}, ValidatorSet: q.set}
}

// A certificate is believed if it proves that the chain went on after the decision that our own
// state has, and only then. Item 41.
func TestACertificateProvesTheEndOfItsChain(t *testing.T) {
	q, root := newQuorum(4), tmhash.Sum([]byte("the state after the decision"))
	app := apphash.Of(root, 0)
	decided := q.block(t, 7, nil, tmhash.Sum(nil), 3, nil)
	held := q.block(t, 8, decided, app, 3, nil)
	good := Certificate{decided, held, q.set, root}
	s := chain.State{ChainID: "test", Height: 8, AppHash: app, Params: chain.DefaultParams(),
		Reset: &chain.Reset{Height: 7, TimeNs: time.Unix(1007, 0).UnixNano(), Offset: 20}}
	s.BlockHash = held.Hash()
	require.NoError(t, good.Check(s))

	b, err := good.Encode()
	require.NoError(t, err)
	again, err := Decode(b)
	require.NoError(t, err)
	require.NoError(t, again.Check(s))
	require.Len(t, again.Validators(), 4)

	another := newQuorum(5)
	theirs := another.block(t, 7, nil, tmhash.Sum(nil), 5, nil)
	at := func(height int64, app []byte, signed int, edit func(*types.Header)) *types.LightBlock {
		return q.block(t, height, nil, app, signed, edit)
	}
	of := func(f, after *types.LightBlock) Certificate { return Certificate{f, after, q.set, root} }
	follow := func(by quorum, height int64, app []byte, signed int) Certificate {
		return of(decided, by.block(t, height, decided, app, signed, nil))
	}

	for what, c := range map[string]struct {
		Certificate
		fault error
		want  string
	}{
		"too few signed F":    {of(at(7, app, 2, nil), held), ErrSignatures, "block 7"},
		"too few signed F+1":  {follow(q, 8, app, 2), ErrSignatures, "block 8"},
		"another state":       {follow(q, 8, root, 3), ErrRoot, "app hash"},
		"another root":        {Certificate{decided, held, q.set, app}, ErrRoot, "leads to"},
		"another F":           {of(at(7, app, 4, nil), held), ErrBlock, "block 8 follows"},
		"another height":      {of(at(6, app, 4, nil), held), ErrBlock, "block 6, want 7"},
		"another F+1":         {follow(q, 9, app, 4), ErrBlock, "7 and 9"},
		"other validators":    {Certificate{decided, held, another.set, root}, ErrSet, "after block 8"},
		"signed by strangers": {follow(another, 8, app, 5), ErrSet, "block 7 names"},
		"another time": {of(at(7, app, 3, func(h *types.Header) { h.Time = time.Unix(2, 0) }), held), ErrBlock,
			"block 8 follows"},
		"another chain": {of(at(7, app, 3, func(h *types.Header) { h.ChainID = "x" }), held), ErrBlock,
			`of chain "x"`},
		"made by strangers": {Certificate{theirs, another.block(t, 8, theirs, app, 5, nil), another.set, root},
			ErrBlock, "this node has committed"},
	} {
		err := c.Certificate.Check(s)
		require.ErrorIs(t, err, ErrCertificate, what)
		require.ErrorIs(t, err, c.fault, what)
		require.ErrorContains(t, err, c.want, what)
	}

	s.Reset.TimeNs++
	require.ErrorContains(t, good.Check(s), "the reset of")
	s.Reset.TimeNs--
	s.Period = 1
	require.ErrorIs(t, good.Check(s), ErrNoReset)

	for _, bad := range [][]byte{nil, {1}, b[:len(b)/2]} {
		_, err := Decode(bad)
		require.ErrorIs(t, err, ErrForm)
	}
}
