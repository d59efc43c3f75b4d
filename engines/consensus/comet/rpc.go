package comet

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cometbft/cometbft/mempool"
	rpchttp "github.com/cometbft/cometbft/rpc/client/http"
	"github.com/cometbft/cometbft/types"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/consensus/comet/bootstrap"
	"github.com/coppice-go/coppice/engines/consensus/comet/certificate"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// rpc is a client of CometBFT's RPC over our own socket.
type rpc struct {
	*rpchttp.HTTP
	http *http.Client
}

// rpcTime bounds one request.
const rpcTime = 5 * time.Second

func newRPC(socket string) (rpc, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	hc := &http.Client{Transport: transport, Timeout: rpcTime}
	c, err := rpchttp.NewWithClient("http://comet", "/websocket", hc)
	return rpc{c, hc}, err
}

func (c rpc) close() { c.http.CloseIdleConnections() }

// errFull is the error if CometBFT's mempool is full.
var errFull = errors.New("CometBFT's mempool is full")

// broadcast passes transactions to CometBFT's mempool, in as few requests as its RPC accepts. It is
// not an error if the mempool already has a transaction, or knows it as committed. (broadcast makes
// the batches itself: CometBFT's own client drops all answers of a batch if one is an error.)
func (c rpc) broadcast(ctx context.Context, txs [][]byte) error {
	for batch := range slices.Chunk(txs, comethome.RPCBatch) {
		if err := c.broadcastBatch(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

func (c rpc) broadcastBatch(ctx context.Context, txs [][]byte) error {
	var body bytes.Buffer
	body.WriteByte('[')

	for i, tx := range txs {
		if i > 0 {
			body.WriteByte(',')
		}
		body.WriteString(`{"jsonrpc":"2.0","id":`)
		body.WriteString(strconv.Itoa(i))
		body.WriteString(`,"method":"broadcast_tx_async","params":{"tx":"`)
		body.WriteString(base64.StdEncoding.EncodeToString(tx))
		body.WriteString(`"}}`)
	}

	body.WriteByte(']')

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://comet/", &body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")

	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}

	type answer struct {
		Error *struct {
			Message string `json:"message"`
			Data    string `json:"data"`
		} `json:"error"`
	}

	var answers []answer
	if err := json.Unmarshal(data, &answers); err != nil {
		answers = make([]answer, 1)
		if json.Unmarshal(data, &answers[0]) != nil {
			return fmt.Errorf("CometBFT's RPC answered with status %d and %.200q", resp.StatusCode, data)
		}
	}

	for _, a := range answers {
		switch {
		case a.Error == nil, strings.Contains(a.Error.Data, mempool.ErrTxInCache.Error()):
		case strings.Contains(a.Error.Data, "mempool is full"):
			return fmt.Errorf("%w: %s", errFull, a.Error.Data)
		default:
			return fmt.Errorf("broadcast: %s: %s", a.Error.Message, a.Error.Data)
		}
	}

	return nil
}

// alone reports whether this node is the only validator.
func (c rpc) alone(ctx context.Context) (bool, error) {
	alone, _, err := c.role(ctx)
	return alone, err
}

// role reports whether this node is the only validator (alone), and whether it is fetching blocks
// that other nodes have already committed (catchingUp).
func (c rpc) role(ctx context.Context) (alone, catchingUp bool, err error) {
	s, err := c.Status(ctx)
	if err != nil {
		return false, false, err
	}

	page, few := 1, 2
	v, err := c.Validators(ctx, nil, &page, &few)
	if err != nil {
		return false, false, err
	}

	alone = v.Total == 1 && v.Validators[0].Address.String() == s.ValidatorInfo.Address.String()
	return alone, s.SyncInfo.CatchingUp, nil
}

// peersAhead reports whether a peer has committed a block that we do not have. Such a peer works on
// a height beyond the one after ours. Only peers that were heard from within the given time count,
// because CometBFT keeps the last state of a silent peer as long as the connection seems to stand.
func (c rpc) peersAhead(ctx context.Context, height uint64, within time.Duration) (bool, error) {
	heights, err := c.peerHeights(ctx)
	if err != nil {
		return false, err
	}

	n, err := c.NetInfo(ctx)
	if err != nil {
		return false, err
	}

	for _, p := range n.Peers {
		if heights[string(p.NodeInfo.DefaultNodeID)] > int64(height)+1 && p.ConnectionStatus.RecvMonitor.Idle < within {
			return true, nil
		}
	}

	return false, nil
}

// ErrNotAsked is the error if no process answers on the socket of a home's CometBFT.
var ErrNotAsked = errors.New("the home's CometBFT does not answer")

// ValidatorSet returns the latest height of the CometBFT that runs in a home, and the validators at
// that height. It asks over the home's own socket, on which no other CometBFT can answer, whatever
// the configuration says about TCP. If the chain is not that of the genesis, the error is
// ErrGenesis. While CometBFT does not answer, for example between two of its processes,
// ValidatorSet tries again until ctx ends. It then returns ErrNotAsked.
func ValidatorSet(ctx context.Context, home string) (height int64, set []comethome.Validator, err error) {
	if home, err = filepath.Abs(home); err != nil {
		return 0, nil, err
	}
	g, err := comethome.ReadGenesis(home)
	if err != nil {
		return 0, nil, err
	}

	socket := rpcSocket(comethome.SocketDir(home))
	c, err := newRPC(socket)
	if err != nil {
		return 0, nil, err
	}
	defer c.close()

	for {
		height, set, err = c.validatorSet(ctx, g.ChainID)
		if err == nil || errors.Is(err, comethome.ErrGenesis) {
			return height, set, err
		}
		if ended := engines.Pause(ctx, feedRetry); ended != nil {
			return 0, nil, fmt.Errorf("%w on %s: %w; the last attempt: %w", ErrNotAsked, socket, ended, err)
		}
	}
}

func (c rpc) validatorSet(ctx context.Context, chainID string) (height int64, set []comethome.Validator, err error) {
	s, err := c.Status(ctx)
	if err != nil {
		return 0, nil, err
	}

	if s.NodeInfo.Network != chainID {
		return 0, nil, fmt.Errorf("%w: the CometBFT that runs is of chain %q, the home's genesis.json of %q",
			comethome.ErrGenesis, s.NodeInfo.Network, chainID)
	}

	var at *int64 // the height of the first page, for all

	for page, per := 1, 100; ; page++ {
		res, err := c.Validators(ctx, at, &page, &per)
		if err != nil {
			return 0, nil, err
		}

		at = &res.BlockHeight
		for _, v := range res.Validators {
			set = append(set, comethome.Validator{Address: v.Address.String(), PubKey: v.PubKey.Bytes(),
				Power: v.VotingPower})
		}

		if res.Count == 0 || len(set) >= res.Total {
			return *at, set, nil
		}
	}
}

// certificate asks CometBFT for the certificate of the reset that was decided at a height, with the
// root of the state after it. It returns an error until the next block is committed.
func (c rpc) certificate(ctx context.Context, decided uint64, root []byte) (out certificate.Certificate, err error) {
	out.Root = root
	at := int64(decided)
	if out.Decided, err = c.lightBlock(ctx, at); err != nil {
		return out, err
	}
	if out.Held, err = c.lightBlock(ctx, at+1); err != nil {
		return out, err
	}
	out.After, err = c.validatorsAt(ctx, at+2)

	return out, err
}

func (c rpc) lightBlock(ctx context.Context, height int64) (*types.LightBlock, error) {
	return bootstrap.LightBlock(ctx, c.HTTP, height)
}

// validatorsAt returns the whole set of a height.
func (c rpc) validatorsAt(ctx context.Context, height int64) (*types.ValidatorSet, error) {
	return bootstrap.Validators(ctx, c.HTTP, height)
}
