package comet

import (
	"context"
	"fmt"
	"path/filepath"

	ctypes "github.com/cometbft/cometbft/rpc/core/types"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// ConnectedPeer is a peer that a running CometBFT is connected to.
type ConnectedPeer struct {
	NodeID   string `json:"node_id"`
	Moniker  string `json:"moniker,omitempty"`
	Address  string `json:"address"` // of the connection
	Outbound bool   `json:"outbound"`
	PubKey   []byte `json:"pub_key,omitempty"` // of its validator, if it has said so
	Height   int64  `json:"height,omitempty"`  // at which it works
}

// Peers returns the peers of the CometBFT that runs in a home. If none answers, the error is
// ErrNotAsked.
func Peers(ctx context.Context, home string) ([]ConnectedPeer, error) {
	c, err := ownRPC(home)
	if err != nil {
		return nil, err
	}
	defer c.close()

	info, err := c.NetInfo(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotAsked, err)
	}
	heights, err := c.peerHeights(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotAsked, err)
	}
	said, err := c.peers(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotAsked, err)
	}

	keys := make(map[string][]byte)
	for _, p := range said {
		keys[p.NodeID] = p.PubKey
	}

	all := []ConnectedPeer{}
	for _, p := range info.Peers {
		id := string(p.NodeInfo.DefaultNodeID)
		all = append(all, ConnectedPeer{NodeID: id, Moniker: p.NodeInfo.Moniker, Address: p.RemoteIP,
			Outbound: p.IsOutbound, PubKey: keys[id], Height: heights[id]})
	}

	return all, nil
}

// Dial makes the CometBFT that runs in a home dial a peer, node id@host:port, and stay connected to
// it until the process ends. If none answers, the error is ErrNotAsked.
func Dial(ctx context.Context, home, peer string) error {
	c, err := ownRPC(home)
	if err != nil {
		return err
	}
	defer c.close()

	var res ctypes.ResultDialPeers
	err = c.call(ctx, "dial_peers", map[string]any{"peers": []string{peer}, "persistent": true, "unconditional": false,
		"private": true}, &res)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotAsked, err)
	}

	return nil
}

// ownRPC returns a client of the socket of a home's CometBFT.
func ownRPC(home string) (rpc, error) {
	home, err := filepath.Abs(home)
	if err != nil {
		return rpc{}, err
	}
	return newRPC(rpcSocket(comethome.SocketDir(home)))
}
