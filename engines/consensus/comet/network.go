package comet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/coppice-go/coppice/engines/consensus"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// Network returns the peers of CometBFT and its round, from its RPC: see consensus.Networked.
func (d Driver) Network(ctx context.Context) (n consensus.Network, err error) {
	socket := rpcSocket(comethome.SocketDir(d.Home))
	var net struct {
		Peers []struct {
			Info struct {
				ID      string `json:"id"`
				Moniker string `json:"moniker"`
			} `json:"node_info"`
			Outbound bool   `json:"is_outbound"`
			Remote   string `json:"remote_ip"`
		} `json:"peers"`
	}
	if err := ask(ctx, socket, "net_info", &net); err != nil {
		return n, err
	}

	for _, p := range net.Peers {
		n.Peers = append(n.Peers, consensus.NetworkPeer{ID: p.Info.ID, Name: p.Info.Moniker, Address: p.Remote,
			Outbound: p.Outbound})
	}

	var state struct {
		RoundState struct {
			Place string `json:"height/round/step"`
		} `json:"round_state"`
	}
	if err := ask(ctx, socket, "consensus_state", &state); err != nil {
		return n, err
	}
	n.Round = state.RoundState.Place

	return n, nil
}

// ask decodes the result of a method of the RPC that a CometBFT serves on a socket.
func ask(ctx context.Context, socket, method string, result any) error {
	var b bytes.Buffer
	if err := inspect(ctx, socket, method, &b); err != nil {
		return err
	}
	if err := json.Unmarshal(b.Bytes(), result); err != nil {
		return fmt.Errorf("CometBFT's RPC answered %s: %w", method, err)
	}
	return nil
}
