package consensus

import "context"

// VoteExtender adds its own data to this validator's votes for blocks (ABCI 2.0 vote extensions),
// such as the prices of an oracle or a share of randomness. It also receives what the other
// validators have added. A driver calls it only if its chain has switched extensions on. Every
// method is called from several goroutines and bounded by ctx. A method that panics counts as
// failed.
//
// Extensions are neither part of the state nor in the event log. To have an effect, they must go
// into a transaction, which all nodes execute: see Proposer.
type VoteExtender interface {
	// ExtendVote returns what to add to the vote for a block. It need not be deterministic. If it
	// returns an error, the vote has no extension.
	ExtendVote(ctx context.Context, v Vote) ([]byte, error)

	// VerifyVoteExtension reports whether another validator's extension is valid. If it is not, the
	// vote does not count either. VerifyVoteExtension must judge by its arguments alone, so that
	// all honest nodes judge alike. It must never refuse what the ExtendVote of an honest node
	// returns, which may be empty.
	VerifyVoteExtension(ctx context.Context, v Vote, extension []byte) bool
}

// Proposer is a VoteExtender that also makes transactions from extensions.
type Proposer interface {
	VoteExtender

	// Propose returns the transactions, as canonical bytes, with which a proposal at a height
	// begins. It makes them from the votes for the block before, without those that
	// VerifyVoteExtension refuses. The transactions are checked like any other, and left out if
	// they are refused. Other validators must trust the proposer that these were the votes, unless
	// the transactions contain the votes: each vote has the validator's signature.
	Propose(ctx context.Context, height uint64, votes []ExtendedVote) ([][]byte, error)
}

// Vote is the vote that an extension belongs to.
type Vote struct {
	Height    uint64
	BlockHash []byte
	Validator []byte   // the address of the validator that extended the vote; nil for our own
	Txs       [][]byte // of the block; nil when another validator's extension is verified
}

// ExtendedVote is a validator's vote for a block, with its extension. Absent votes and votes
// without an extension are left out.
type ExtendedVote struct {
	Validator []byte // the address
	Power     int64  // of the validator
	Extension []byte

	// Signature is the validator's signature over chain, height, round and extension, in CometBFT's
	// form (types.VoteExtensionSignBytes).
	Signature []byte
	Round     int32
}
