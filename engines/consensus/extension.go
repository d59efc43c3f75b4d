package consensus

import "context"

// VoteExtender adds data of its own to this validator's votes for blocks (ABCI 2.0 vote
// extensions), and learns what the others have added: an oracle's prices, a share of randomness.
// Only a driver whose chain has switched extensions on calls it. All of it is called from several
// goroutines and bounded by ctx; what panics counts as failed.
//
// Extensions are not part of the state and not in the event log. What is to have an effect goes
// into a transaction, which all nodes execute: see Proposer.
type VoteExtender interface {
	// ExtendVote answers what to add to the vote for a block. It need not be deterministic. With an
	// error the vote has no extension.
	ExtendVote(ctx context.Context, v Vote) ([]byte, error)

	// VerifyVoteExtension tells whether another validator's extension may be counted; the vote
	// falls with it. It must judge by its arguments alone, so that all honest nodes judge alike,
	// and must never refuse what an honest node's ExtendVote answers; that may also be empty.
	VerifyVoteExtension(ctx context.Context, v Vote, extension []byte) bool
}

// Proposer is a VoteExtender that makes transactions of extensions.
type Proposer interface {
	VoteExtender

	// Propose answers the transactions, canonical bytes each, that a proposal at a height begins
	// with, made of the votes for the block before that VerifyVoteExtension does not refuse. They
	// are checked like any other and are left out if they are refused. Other validators take them
	// on the proposer's word, unless the transactions bring the votes with them: each has the
	// validator's signature.
	Propose(ctx context.Context, height uint64, votes []ExtendedVote) ([][]byte, error)
}

// Vote is what an extension belongs to.
type Vote struct {
	Height    uint64
	BlockHash []byte
	Validator []byte   // the address of who extended it; nil for our own
	Txs       [][]byte // of the block; nil when another's is verified
}

// ExtendedVote is a validator's vote for a block, with what it has added. Votes without an
// extension, and absent ones, are not told.
type ExtendedVote struct {
	Validator []byte // the address
	Power     int64  // of the validator
	Extension []byte

	// Signature is the validator's, of chain, height, round and extension, as CometBFT has it
	// (types.VoteExtensionSignBytes).
	Signature []byte
	Round     int32
}
