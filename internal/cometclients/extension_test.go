package cometclients

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/home"
)

// thermometer is a backend whose validators add a measurement to each vote, and whose state holds
// the measurements of the votes.
type thermometer struct {
	degrees  atomic.Int64
	verified atomic.Int64
	key      ed25519.PubKey // of the validator, to verify its signatures
	wrong    atomic.Pointer[error]
}

func (*thermometer) Name() string { return "thermometer" }

func (*thermometer) Check(body []byte) error {
	var h uint64
	var d int64
	_, err := fmt.Sscanf(string(body), "%d %d", &h, &d)
	return err
}

func (*thermometer) Execute(v chain.View, body []byte) ([]byte, error) {
	var h uint64
	var d int64
	if _, err := fmt.Sscanf(string(body), "%d %d", &h, &d); err != nil {
		return nil, err
	}
	return nil, errors.Join(v.Put(fmt.Appendf(nil, "degrees at %d", h), fmt.Append(nil, d)),
		v.Put([]byte("degrees"), fmt.Append(nil, d)))
}

func (t *thermometer) ExtendVote(_ context.Context, v consensus.Vote) ([]byte, error) {
	d := t.degrees.Load()
	if d == 0 {
		return nil, errors.New("nothing measured")
	}
	if d < 0 {
		panic("below zero")
	}
	return fmt.Append(nil, d), nil
}

func (t *thermometer) VerifyVoteExtension(_ context.Context, v consensus.Vote, extension []byte) bool {
	t.verified.Add(1)
	return len(extension) < 10
}

func (t *thermometer) Propose(_ context.Context, height uint64, votes []consensus.ExtendedVote) ([][]byte, error) {
	var txs [][]byte
	for _, v := range votes {
		signed := types.VoteExtensionSignBytes("test",
			&cmtproto.Vote{Height: int64(height - 1), Round: v.Round, Extension: v.Extension})

		if !t.key.VerifySignature(signed, v.Signature) || v.Power != 10 {
			err := fmt.Errorf("the vote of %X for %d is not signed by its validator",
				v.Validator, height-1)
			t.wrong.Store(&err)
		}

		tx := chain.NewTx(t.Name(), fmt.Appendf(nil, "%d %s", height-1, v.Extension), time.Minute)
		raw, err := tx.Encode()
		if err != nil {
			return nil, err
		}

		txs = append(txs, raw)
	}

	return txs, nil
}

// A vote extension goes the whole way on a real chain: it is added to a vote, given to the next
// proposer with its signature, becomes a transaction, and is executed. An extender that fails or
// panics loses its extensions, and nothing else fails.
func TestVoteExtensionsReachTheBackend(t *testing.T) {
	home := newHome(t, home.InitOptions{Consensus: comet.InitOptions{VoteExtensionsHeight: 2}})
	id, err := comethome.ReadIdentity(comethome.Dir(home))
	require.NoError(t, err)
	b := &thermometer{key: ed25519.PubKey(id.Validator.PubKey)}
	b.degrees.Store(21)
	r := startWith(t, home, comet.Kind{Extender: b}, node.WithBackend(b))
	ctx := t.Context()
	block := func(n int) int64 { // waits for one more block
		c, err := r.rpc.BroadcastTxCommit(ctx, types.Tx(fmt.Sprintf("block=%d", n)))
		require.NoError(t, err)
		require.Zero(t, c.TxResult.Code, c.TxResult.Log)
		return c.Height
	}

	degrees := func(at int64) string {
		v, _, err := r.api.Get(ctx, fmt.Appendf(nil, "degrees at %d", at))
		require.NoError(t, err)
		return string(v)
	}
	first := block(1)
	for first < 2 { // from this height on
		first = block(1 + int(first))
	}

	block(101)
	require.Equal(t, "21", degrees(first), "the next block has the measurements of the votes for a block")
	require.Empty(t, degrees(1), "before vote_extensions_enable_height")

	b.degrees.Store(0)
	silent := block(102)
	block(103)
	require.Empty(t, degrees(silent), "if the extender fails, the vote has no extension")
	b.degrees.Store(-1)
	panicked := block(104)
	block(105)
	require.Empty(t, degrees(panicked))
	b.degrees.Store(22)
	last := block(106)
	block(107)
	require.Equal(t, "22", degrees(last))
	if err := b.wrong.Load(); err != nil {
		t.Fatal(*err)
	}
}
