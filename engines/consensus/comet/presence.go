package comet

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	jsonrpc "github.com/cometbft/cometbft/rpc/jsonrpc/client"
	"github.com/cometbft/cometbft/types"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/rpcserver"
)

// recentBlock is the age up to which a vote for the last block shows that its validator is there.
const recentBlock = time.Minute

// mostBehind is how many blocks a peer may be behind and still vote with the others soon.
const mostBehind = 10

// Presence is who can vote at the moment, as the CometBFT of one home sees it.
type Presence struct {
	Height     int64
	Validators []comethome.Validator // at this height

	keys map[string]bool // public keys of those that are present
}

// Has reports whether the holder of a key is there: this node itself, a connected peer that is not
// behind, or a validator whose vote is in the last block if that is recent. A validator behind a
// sentry, and a node of another program, show themselves by their votes only.
func (p Presence) Has(pubKey []byte) bool { return p.keys[string(pubKey)] }

// WhoIsPresent asks the CometBFT that runs in a home, like ValidatorSet, who can vote.
func WhoIsPresent(ctx context.Context, home string) (Presence, error) {
	height, set, err := ValidatorSet(ctx, home)
	if err != nil {
		return Presence{}, err
	}

	home, err = filepath.Abs(home)
	if err != nil {
		return Presence{}, err
	}
	c, err := newRPC(rpcSocket(comethome.SocketDir(home)))
	if err != nil {
		return Presence{}, err
	}
	defer c.close()

	p := Presence{Height: height, Validators: set, keys: make(map[string]bool)}
	if err := c.addPeers(ctx, p); err != nil {
		return Presence{}, fmt.Errorf("%w: %w", ErrNotAsked, err)
	}
	c.addVotes(ctx, p)

	return p, nil
}

// addPeers adds this node, unless it is catching up, and the peers that are not behind.
func (c rpc) addPeers(ctx context.Context, p Presence) error {
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if !s.SyncInfo.CatchingUp {
		p.keys[string(s.ValidatorInfo.PubKey.Bytes())] = true
	}

	heights, err := c.peerHeights(ctx)
	if err != nil {
		return err
	}
	peers, err := c.peers(ctx)
	if err != nil {
		return err
	}

	for _, peer := range peers {
		if heights[peer.NodeID] >= s.SyncInfo.LatestBlockHeight-mostBehind && heights[peer.NodeID] > 0 {
			p.keys[string(peer.PubKey)] = true
		}
	}

	return nil
}

// addVotes adds the validators whose votes are in the last block's commit, if it is recent.
func (c rpc) addVotes(ctx context.Context, p Presence) {
	commit, err := c.Commit(ctx, nil)
	if err != nil || commit.Commit == nil || time.Since(commit.Time) > recentBlock {
		return // there is no block yet
	}

	voted := make(map[string]bool)
	for _, s := range commit.Commit.Signatures {
		if s.BlockIDFlag != types.BlockIDFlagAbsent {
			voted[s.ValidatorAddress.String()] = true
		}
	}

	for _, v := range p.Validators {
		if voted[v.Address] {
			p.keys[string(v.PubKey)] = true
		}
	}
}

// peers returns the connected peers that have said whose key they have.
func (c rpc) peers(ctx context.Context) ([]rpcserver.Peer, error) {
	var res rpcserver.Peers
	err := c.call(ctx, rpcserver.PeersMethod, nil, &res)
	return res.Peers, err
}

// call calls a method of our own socket that CometBFT's client does not know.
func (c rpc) call(ctx context.Context, method string, params map[string]any, result any) error {
	j, err := jsonrpc.NewWithHTTPClient("http://comet", c.http)
	if err != nil {
		return err
	}
	if params == nil {
		params = map[string]any{}
	}
	_, err = j.Call(ctx, method, params, result)
	return err
}

// peerHeights returns the height at which each connected peer works, by node id.
func (c rpc) peerHeights(ctx context.Context) (map[string]int64, error) {
	d, err := c.DumpConsensusState(ctx)
	if err != nil {
		return nil, err
	}

	heights := make(map[string]int64)
	for _, p := range d.Peers {
		var state struct {
			RoundState struct {
				Height int64 `json:"height,string"`
			} `json:"round_state"`
		}
		if err := json.Unmarshal(p.PeerState, &state); err != nil {
			return nil, fmt.Errorf("state of peer %s: %w", p.NodeAddress, err)
		}

		id, _, _ := strings.Cut(p.NodeAddress, "@")
		heights[id] = state.RoundState.Height
	}

	return heights, nil
}
