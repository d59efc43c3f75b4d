package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// rpcTime bounds one question to CometBFT.
const rpcTime = 5 * time.Second

// mostOfAnswer bounds an answer of CometBFT. The largest one that is asked for is a block.
const mostOfAnswer = 256 << 20

// rpc asks CometBFT over its private socket, on which no other CometBFT can answer.
type rpc struct{ client *http.Client }

func newRPC(socket string) rpc {
	return rpc{&http.Client{Timeout: rpcTime, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

func (r rpc) close() { r.client.CloseIdleConnections() }

// ask calls a method and reads its result into out.
func (r rpc) ask(ctx context.Context, method string, query url.Values, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://comet/"+method+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	data, err := io.ReadAll(io.LimitReader(resp.Body, mostOfAnswer))
	if err != nil {
		return err
	}

	var answer struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Message string `json:"message"`
			Data    string `json:"data"`
		} `json:"error"`
	}

	if err := json.Unmarshal(data, &answer); err != nil {
		return fmt.Errorf("CometBFT's RPC answered with status %d and %.200q", resp.StatusCode, data)
	}
	if answer.Error != nil {
		return fmt.Errorf("CometBFT: %s: %s", answer.Error.Message, answer.Error.Data)
	}
	if err := json.Unmarshal(answer.Result, out); err != nil {
		return fmt.Errorf("CometBFT's RPC answered %s with %.200q: %w", method, data, err)
	}

	return nil
}

// height returns the height of CometBFT's last block, and whether it fetches blocks of others.
func (r rpc) height(ctx context.Context) (height int64, err error) {
	var s struct {
		Sync struct {
			Height int64 `json:"latest_block_height,string"`
		} `json:"sync_info"`
	}
	err = r.ask(ctx, "status", nil, &s)
	return s.Sync.Height, err
}

// application returns an error if the application does not answer.
func (r rpc) application(ctx context.Context) error {
	var any struct{}
	return r.ask(ctx, "abci_info", nil, &any)
}

// appHash returns the app hash in the header of a block, in hexadecimal; an empty height stands for
// the latest block.
func (r rpc) appHash(ctx context.Context, height string) (string, error) {
	var b struct {
		Block *struct {
			Header struct {
				AppHash *string `json:"app_hash"`
			} `json:"header"`
		} `json:"block"`
	}

	query := url.Values{}
	if height != "" {
		query.Set("height", height)
	}
	if err := r.ask(ctx, "block", query, &b); err != nil {
		return "", err
	}
	if b.Block == nil || b.Block.Header.AppHash == nil {
		return "", errors.New("there is no block yet")
	}

	return *b.Block.Header.AppHash, nil
}

// AppHash asks the CometBFT at a private socket for the app hash in the header of a block, in
// hexadecimal. An empty height stands for the latest block.
func AppHash(ctx context.Context, socket, height string) (string, error) {
	if height != "" {
		if n, err := strconv.ParseInt(height, 10, 64); err != nil || n <= 0 {
			return "", fmt.Errorf("height: %q, want a number above 0", height)
		}
	}
	r := newRPC(socket)
	defer r.close()
	return r.appHash(ctx, height)
}

// pending returns the number of transactions in CometBFT's mempool.
func (r rpc) pending(ctx context.Context) (int, error) {
	var m struct {
		Count int `json:"n_txs,string"`
	}
	err := r.ask(ctx, "num_unconfirmed_txs", nil, &m)
	return m.Count, err
}
