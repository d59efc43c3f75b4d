package comet

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
		sig, err := q.keys[string(v.Address)].Sign(c.VoteSignBytes("test", int32(i)))
		require.NoError(t, err)
		c.Signatures[i].Signature = sig
	}

	return &types.LightBlock{SignedHeader: &types.SignedHeader{Header: h, Commit: c}, ValidatorSet: q.set}
}

// A certificate is believed if it proves that the chain went on after the decision that our own
// state has, and only then.
func TestACertificateProvesTheEndOfItsChain(t *testing.T) {
	q, app := newQuorum(4), tmhash.Sum([]byte("the state after the decision"))
	decided := q.block(t, 7, nil, tmhash.Sum(nil), 3, nil)
	held := q.block(t, 8, decided, app, 3, nil)
	good := certificate{decided, held, q.set}
	s := chain.State{ChainID: "test", Height: 8, AppHash: app, Params: testParams(),
		Reset: &chain.Reset{Height: 7, TimeNs: time.Unix(1007, 0).UnixNano(), Offset: 20}}
	require.NoError(t, good.check(s))

	b, err := good.encode()
	require.NoError(t, err)
	again, err := decodeCertificate(b)
	require.NoError(t, err)
	require.NoError(t, again.check(s))
	require.Len(t, again.validators(), 4)

	another := newQuorum(5)
	for what, c := range map[string]struct {
		certificate certificate
		want        string
	}{
		"too few signed F":   {certificate{q.block(t, 7, nil, app, 2, nil), held, q.set}, "block 7"},
		"too few signed F+1": {certificate{decided, q.block(t, 8, decided, app, 2, nil), q.set}, "block 8"},
		"another root": {certificate{decided, q.block(t, 8, decided, tmhash.Sum([]byte("x")), 3, nil), q.set},
			"app hash"},
		"another F":        {certificate{q.block(t, 7, nil, app, 4, nil), held, q.set}, "block 8 follows"},
		"another height":   {certificate{q.block(t, 6, nil, app, 4, nil), held, q.set}, "block 6, want 7"},
		"other validators": {certificate{decided, held, another.set}, "after block 8"},
		"signed by strangers": {certificate{decided, another.block(t, 8, decided, app, 5, nil), q.set},
			"block 7 names"},
		"another time": {certificate{q.block(t, 7, nil, app, 3, func(h *types.Header) { h.Time = time.Unix(2, 0) }),
			held, q.set}, "block 8 follows"},
		"another chain": {certificate{q.block(t, 7, nil, app, 3, func(h *types.Header) { h.ChainID = "x" }),
			held, q.set}, "block 7"},
	} {
		err := c.certificate.check(s)
		require.ErrorIs(t, err, errCertificate, what)
		require.ErrorContains(t, err, c.want, what)
	}

	s.Reset.TimeNs++
	require.ErrorContains(t, good.check(s), "the reset of")
	s.Reset.TimeNs--
	s.Period = 1
	require.ErrorContains(t, good.check(s), "no reset is due")

	for _, bad := range [][]byte{nil, {1}, b[:len(b)/2]} {
		_, err := decodeCertificate(bad)
		require.ErrorIs(t, err, errCertificate)
	}
}
