package consensus

import (
	"context"
	"time"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Peer is another node of the same chain, asked over its API. Its answers are bounded and well
// formed; a signature that does not fit is an error. Nothing else is checked: the caller checks
// each certificate itself, and takes a standing that nobody has signed as a hint only. All methods
// are safe for concurrent use.
type Peer interface {
	// String returns the peer's address.
	String() string

	// Standing returns where the peer's chain stands.
	Standing(ctx context.Context) (PeerStanding, error)

	// Certificates returns the certificates of the epochs from the given one on, the oldest first
	// and without gaps, as many as one answer holds. It returns none if the peer has no such
	// certificate.
	Certificates(ctx context.Context, from uint64) ([]Certificate, error)

	// FirstGenesis returns the genesis of epoch 0, in the form of the kind of consensus.
	FirstGenesis(ctx context.Context) ([]byte, error)

	// AtReset returns the metadata of the state at the reset that ended an epoch, in the form of
	// Snapshot.Metadata. It returns ErrNoSnapshot if the peer does not have that state, or still
	// makes it.
	AtReset(ctx context.Context, epoch uint64) (metadata []byte, err error)

	// ResetChunk returns a chunk of the state whose metadata has that SHA-256.
	ResetChunk(ctx context.Context, hash []byte, index uint32) ([]byte, error)

	// LightBlock returns a block of the present epoch with the signatures under it, and the
	// validators of its height, in the form of the kind of consensus. The block is nil if the peer
	// knows the validators only. It returns ErrNoSnapshot if the peer has neither.
	LightBlock(ctx context.Context, height uint64) (block, validators []byte, err error)
}

// PeerStanding is where the committed chain of a peer stands.
type PeerStanding struct {
	Name      string // of the chain, which is the chain id of epoch 0
	Epoch     uint64
	Height    uint64 // 0: the epoch has no block yet
	BlockHash []byte
	AppHash   []byte

	// Agent is the agent of genesis.json that has signed this; empty: nobody has, so this is only a
	// hint.
	Agent string
}

// Ahead reports whether the peer has committed more than an epoch and a height.
func (s PeerStanding) Ahead(epoch, height uint64) bool {
	return s.Epoch > epoch || s.Epoch == epoch && s.Height > height
}

// Certificate is the proof of a consensus that an epoch has ended at a reset.
type Certificate struct {
	Epoch  uint64 // that ended
	Height uint64 // of the block that decided the reset
	Root   []byte // of the state after that block (chain.Root); nil: not known

	Proof []byte // in the form of the kind of consensus
	First []byte // the first block of the next epoch, in that form; nil: the node does not have it

	// Agent is, in the answer of a peer, the agent of genesis.json that has signed the epoch, the
	// height and the root; empty: nobody has.
	Agent string
}

// Certifier is a Driver whose chain ends each epoch with a certificate. Nodes keep certificates for
// good, and hand them to their peers.
type Certifier interface {
	Driver

	// Certificates returns the certificates that the home keeps, of the epochs from the given one
	// on, the oldest first and without gaps. It returns at most maxBytes bytes of them, but at
	// least one if there is any. It works whatever the driver is doing, and is safe for concurrent
	// use.
	Certificates(from uint64, maxBytes int) ([]Certificate, error)

	// FirstGenesis returns the genesis of epoch 0, by which the first certificate is checked. Like
	// Certificates it always works.
	FirstGenesis() ([]byte, error)

	// LightBlock returns what Peer.LightBlock does, of this node's own running consensus.
	LightBlock(ctx context.Context, height uint64) (block, validators []byte, err error)
}

// ResetPoint is a reset that a later epoch follows, and the state there. Certificates prove it.
type ResetPoint struct {
	ChainID string // of the epoch that ended
	Epoch   uint64 // that ended
	Height  uint64 // of the block that decided the reset
	Root    []byte // of the state after that block
	AppHash []byte // of that state in the epoch that ended

	// The block that decided the reset, and the record that began the epoch that ended.
	BlockHash []byte
	Time      time.Time
	Started   *logv1.ChainStarted
}

// Joiner brings a node that was left behind to a later epoch.
type Joiner interface {
	// Join takes the state at a reset from one of the peers, and makes it the node's committed
	// state. It asks the peers one after the other, and checks what it gets against the root. It
	// returns when the state is durable and the core serves it: the committed chain then is at
	// at.Height of at.Epoch, in hold. The driver runs no process meanwhile, and goes on from there
	// with the certificate. Join may be repeated, also after a crash at any point.
	Join(ctx context.Context, at ResetPoint, peers []Peer) error
}
