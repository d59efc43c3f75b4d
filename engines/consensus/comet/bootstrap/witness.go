package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/cometbft/cometbft/rpc/client"
	rpchttp "github.com/cometbft/cometbft/rpc/client/http"
	"github.com/cometbft/cometbft/types"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// Witness is a peer that is asked for a base. What it answers is checked.
type Witness interface {
	String() string
	LightBlock(ctx context.Context, height int64) (*types.LightBlock, error)
	Validators(ctx context.Context, height int64) (*types.ValidatorSet, error)
	Close()
}

// LightBlock asks a CometBFT for a block of its chain.
func LightBlock(ctx context.Context, c client.SignClient, height int64) (*types.LightBlock, error) {
	res, err := c.Commit(ctx, &height)
	if err != nil {
		return nil, err
	}
	set, err := Validators(ctx, c, height)
	if err != nil {
		return nil, err
	}
	if res.Header == nil || res.Commit == nil {
		return nil, fmt.Errorf("CometBFT has no commit of block %d", height)
	}

	return &types.LightBlock{SignedHeader: &res.SignedHeader, ValidatorSet: set}, nil
}

// Validators asks a CometBFT for the whole set of validators of a height.
func Validators(ctx context.Context, c client.SignClient, height int64) (*types.ValidatorSet, error) {
	var all []*types.Validator
	for page, per := 1, 100; ; page++ {
		res, err := c.Validators(ctx, &height, &page, &per)
		if err != nil {
			return nil, err
		}
		if all = append(all, res.Validators...); res.Count == 0 || len(all) >= res.Total {
			return types.ValidatorSetFromExistingValidators(all)
		}
	}
}

// rpc asks a peer by its CometBFT's RPC.
type rpc struct {
	address string
	client  *rpchttp.HTTP
	http    *http.Client
}

func (r rpc) String() string { return r.address }

func (r rpc) LightBlock(ctx context.Context, height int64) (*types.LightBlock, error) {
	return LightBlock(ctx, r.client, height)
}

func (r rpc) Validators(ctx context.Context, height int64) (*types.ValidatorSet, error) {
	return Validators(ctx, r.client, height)
}

func (r rpc) Close() { r.http.CloseIdleConnections() }

const (
	// mostOfAnswer bounds one answer of a peer: a page of validators, or a commit by as many as
	// CometBFT allows.
	mostOfAnswer = 32 << 20

	rpcTime = 5 * time.Second // bounds one question
)

// RPC returns the witness whose CometBFT's RPC is at host:port or a URL.
func RPC(address string) (Witness, error) {
	url := address
	if rest, ok := strings.CutPrefix(url, "tcp://"); ok {
		url = rest
	}
	if !strings.Contains(url, "://") {
		url = "http://" + url
	}

	hc := &http.Client{Transport: bounded{http.DefaultTransport.(*http.Transport).Clone()}, Timeout: rpcTime}
	c, err := rpchttp.NewWithClient(url, "/websocket", hc)
	if err != nil {
		return nil, fmt.Errorf("%q: want host:port or a URL of a CometBFT RPC: %w", address, err)
	}

	return rpc{address, c, hc}, nil
}

// RPCs returns the witnesses at the addresses that are valid, and an error that names the others.
func RPCs(addresses []string) (all []Witness, err error) {
	for _, a := range addresses {
		w, bad := RPC(a)
		if bad != nil {
			err = errors.Join(err, bad)
			continue
		}
		all = append(all, w)
	}
	return all, err
}

// bounded bounds what a strange server may answer.
type bounded struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.Transport.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, mostOfAnswer), resp.Body}
	}
	return resp, err
}

// Reachable returns the first of a peer's addresses that can be reached from here, or "". The peer
// listens on all addresses, on its loopback, or on one of its own.
func Reachable(addresses, ip string) string {
	for a := range comethome.Listed(addresses) {
		_, rest, ok := strings.Cut(a, "tcp://")
		if !ok {
			continue
		}
		host, port, err := net.SplitHostPort(rest)
		if err != nil || port == "0" {
			continue
		}

		switch listens := net.ParseIP(host); {
		case host == "", listens != nil && listens.IsUnspecified():
			host = ip
		case host == "localhost", listens != nil && listens.IsLoopback():
			if from := net.ParseIP(ip); from == nil || !from.IsLoopback() {
				continue
			}
		}
		return net.JoinHostPort(host, port)
	}

	return ""
}
