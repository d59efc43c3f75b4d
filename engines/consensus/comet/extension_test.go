package comet

import (
	"context"
	"errors"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
)

// extender gives the answers that the test sets.
type extender struct {
	extend  func() ([]byte, error)
	verify  func(extension []byte) bool
	propose func(votes []consensus.ExtendedVote) ([][]byte, error)
}

func (e extender) ExtendVote(context.Context, consensus.Vote) ([]byte, error) { return e.extend() }

func (e extender) VerifyVoteExtension(_ context.Context, _ consensus.Vote, extension []byte) bool {
	return e.verify == nil || e.verify(extension)
}

func (e extender) Propose(_ context.Context, _ uint64, votes []consensus.ExtendedVote) ([][]byte, error) {
	return e.propose(votes)
}

func extended(e consensus.VoteExtender) (*app, *fakeCore) {
	c := newFakeCore()
	c.state = chain.State{ChainID: "test", InitialHeight: 1, Params: chain.DefaultParams(), Height: 3}
	return &app{core: c.core("test"), extender: e, health: newHealth(nil), log: zap.NewNop()}, c
}

func TestAVoteGoesOnWithoutAnExtensionThatFails(t *testing.T) {
	for name, e := range map[string]func() ([]byte, error){
		"error": func() ([]byte, error) { return []byte("not this"), errors.New("no") },
		"panic": func() ([]byte, error) { panic("no") },
	} {
		a, _ := extended(extender{extend: e})
		require.Empty(t, a.extendVote(t.Context(), &abci.RequestExtendVote{Height: 4}).VoteExtension, name)
	}

	a, _ := extended(extender{extend: func() ([]byte, error) { return []byte("this"), nil }})
	require.Equal(t, "this", string(a.extendVote(t.Context(), &abci.RequestExtendVote{Height: 4}).VoteExtension))
}

func TestAnExtensionIsJudgedByTheExtender(t *testing.T) {
	judge := func(e consensus.VoteExtender, extension string) bool {
		a, _ := extended(e)
		return a.verifyVoteExtension(t.Context(),
			&abci.RequestVerifyVoteExtension{Height: 4, VoteExtension: []byte(extension)}).IsAccepted()
	}

	e := extender{verify: func(x []byte) bool {
		if string(x) == "panic" {
			panic(x)
		}
		return string(x) == "good"
	}}
	require.True(t, judge(e, "good"))
	require.False(t, judge(e, "bad"))
	require.False(t, judge(e, "panic"))
	require.True(t, judge(nil, "anything"), "no extender can judge, and a refused vote is lost")
}

func TestAProposalBeginsWithWhatTheExtenderMakesOfTheVotes(t *testing.T) {
	vote := func(extension string, flag cmtproto.BlockIDFlag) abci.ExtendedVoteInfo {
		return abci.ExtendedVoteInfo{Validator: abci.Validator{Address: []byte("v"), Power: 7},
			VoteExtension: []byte(extension), ExtensionSignature: []byte("s"), BlockIdFlag: flag}
	}
	var told []consensus.ExtendedVote
	e := extender{verify: func(x []byte) bool {
		return string(x) != "refused"
	}, propose: func(votes []consensus.ExtendedVote) ([][]byte, error) {
		told = votes
		return [][]byte{[]byte("of votes"), []byte("bad one"), []byte("mempool")}, nil
	}}
	a, c := extended(e)
	c.submit("pool")
	req := &abci.RequestPrepareProposal{
		Height: 4, Time: time.Now(), MaxTxBytes: 1000, Txs: [][]byte{[]byte("mempool")},
		LocalLastCommit: abci.ExtendedCommitInfo{Round: 2, Votes: []abci.ExtendedVoteInfo{
			vote("x", cmtproto.BlockIDFlagCommit), vote("", cmtproto.BlockIDFlagCommit),
			vote("y", cmtproto.BlockIDFlagNil), vote("z", cmtproto.BlockIDFlagAbsent),
			// CometBFT does not ask about a vote that arrives after the block was decided.
			vote("refused", cmtproto.BlockIDFlagCommit),
		}},
	}
	resp := a.prepareProposal(t.Context(), req)
	require.Equal(t, []string{"of votes", "mempool", "pool"}, texts(resp.Txs), "first, checked, and once each")
	require.Equal(t, []consensus.ExtendedVote{{Validator: []byte("v"), Power: 7, Extension: []byte("x"),
		Signature: []byte("s"), Round: 2}}, told)

	a, _ = extended(extender{propose: func([]consensus.ExtendedVote) ([][]byte, error) { panic("no") }})
	require.Equal(t, []string{"mempool"}, texts(a.prepareProposal(t.Context(), req).Txs))
}

func texts(txs [][]byte) (out []string) {
	for _, tx := range txs {
		out = append(out, string(tx))
	}
	return out
}
