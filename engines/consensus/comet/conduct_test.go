package comet

import (
	"testing"

	abci "github.com/cometbft/cometbft/abci/types"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
)

// Only a missing vote is absence, and only two votes for one height are a double sign.
func TestConductIsReadFromTheRequest(t *testing.T) {
	vote := func(address string, flag cmtproto.BlockIDFlag) abci.VoteInfo {
		return abci.VoteInfo{Validator: abci.Validator{Address: []byte(address), Power: 1}, BlockIdFlag: flag}
	}
	accused := func(address string, kind abci.MisbehaviorType) abci.Misbehavior {
		return abci.Misbehavior{Type: kind, Validator: abci.Validator{Address: []byte(address)}}
	}

	b, err := blockOf(chain.State{ChainID: "test"}, &abci.RequestFinalizeBlock{Height: 3,
		DecidedLastCommit: abci.CommitInfo{Votes: []abci.VoteInfo{vote("a", cmtproto.BlockIDFlagCommit),
			vote("b", cmtproto.BlockIDFlagAbsent), vote("c", cmtproto.BlockIDFlagNil)}},
		Misbehavior: []abci.Misbehavior{accused("c", abci.MisbehaviorType_DUPLICATE_VOTE),
			accused("d", abci.MisbehaviorType_LIGHT_CLIENT_ATTACK)}})
	require.NoError(t, err)
	absent, doubleSigned, err := conduct(b)
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("b")}, absent)
	require.Equal(t, [][]byte{[]byte("c")}, doubleSigned)

	list, proofs, err := votes(b.Request)
	require.NoError(t, err)
	require.Equal(t, []consensus.CommitVote{{Validator: []byte("a"), Power: 1, Flag: "commit"},
		{Validator: []byte("b"), Power: 1, Flag: "absent"}, {Validator: []byte("c"), Power: 1, Flag: "nil"}}, list)
	require.Len(t, proofs, 2)
	require.Equal(t, consensus.Misbehavior{Type: "duplicate_vote", Validator: []byte("c"), Time: proofs[0].Time},
		proofs[0])
	require.Equal(t, "light_client_attack", proofs[1].Type)

	absent, doubleSigned, err = conduct(chain.Block{})
	require.NoError(t, err)
	require.Empty(t, absent)
	require.Empty(t, doubleSigned)
	_, _, err = votes([]byte{0xff})
	require.Error(t, err)
	_, _, err = conduct(chain.Block{Height: 7, Request: []byte{0xff}})
	require.ErrorContains(t, err, "the request of block 7")
}
