package comet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/coppice-go/coppice/engines/consensus"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// inspections are the methods of CometBFT's RPC whose answers describe a CometBFT, and the names of
// the parts that they make.
var inspections = []struct{ name, method string }{
	{"cometbft-status.json", "status"},
	{"cometbft-net-info.json", "net_info"},
	{"cometbft-consensus-state.json", "consensus_state"},
	{"cometbft-dump-consensus-state.json", "dump_consensus_state"},
	{"cometbft-num-unconfirmed-txs.json", "num_unconfirmed_txs"},
}

// Inspections returns what CometBFT says about itself over its RPC: see consensus.Inspected.
func (d Driver) Inspections() (parts []consensus.Inspection) {
	for _, i := range inspections {
		parts = append(parts, consensus.Inspection{Name: i.name, Write: func(ctx context.Context, w io.Writer) error {
			return inspect(ctx, rpcSocket(comethome.SocketDir(d.Home)), i.method, w)
		}})
	}
	return parts
}

// inspect writes the result of a method of the RPC that a CometBFT serves on a socket.
func inspect(ctx context.Context, socket, method string, w io.Writer) error {
	c, err := newRPC(socket)
	if err != nil {
		return err
	}
	defer c.close()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://comet/"+method, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w on %s: %w", ErrNotAsked, socket, err)
	}
	defer resp.Body.Close()

	var answer struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Message string `json:"message"`
			Data    string `json:"data"`
		} `json:"error"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("CometBFT's RPC answered %s with status %d: %w", method, resp.StatusCode, err)
	}
	if answer.Error != nil {
		return fmt.Errorf("CometBFT's RPC answered %s: %s: %s", method, answer.Error.Message, answer.Error.Data)
	}

	_, err = w.Write(append(answer.Result, '\n'))
	return err
}
