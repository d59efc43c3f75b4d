package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus/comet/comettest"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/plan"
)

// abciSocket returns the path of the socket to which the running CometBFT is connected.
func (r *cometRig) abciSocket() string {
	r.t.Helper()
	sockets, err := filepath.Glob(filepath.Join(comethome.SocketDir(comethome.Dir(r.home)), "abci-*.sock"))
	require.NoError(r.t, err)
	require.Len(r.t, sockets, 1)
	return sockets[0]
}

// A bad client shares the socket with the real CometBFT, under load: garbage, partial and oversized
// frames, early hang-ups, and more connections than there may be. Nothing stops and nothing
// restarts. COPPICE_COMET_FRAMES is how many bad things the client does.
func TestABadClientOnTheABCISocketStopsNothing(t *testing.T) {
	n, seed, _ := campaign(t, "COPPICE_COMET_FRAMES", 300)
	r := newCometRig(t, plan.Default, seed, false)
	server := childAt(r.tree(), consensusPath+"/abci").Live.Incarnation
	socket := r.abciSocket()
	before := r.now()
	began := time.Now()
	const clients = 6
	var left atomic.Int64
	left.Store(int64(n))
	var mu sync.Mutex
	done := map[string]int{}
	var errs []error
	var wg sync.WaitGroup

	for i := range clients {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				what, err := comettest.Misbehave(socket, rng)
				mu.Lock()
				if done[what]++; err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", what, err))
				}
				mu.Unlock()
			}
		})
	}

	wg.Wait()
	require.Empty(t, errs)
	took := time.Since(began)
	r.progress(3)

	var many []net.Conn // more than there may be: those are refused, and nobody else notices

	for range 40 {
		c, err := net.Dial("unix", socket)
		require.NoError(t, err)
		many = append(many, c)
	}

	r.progress(3)
	for _, c := range many {
		require.NoError(t, c.Close())
	}

	now := r.progress(3)
	require.Len(t, now.comets, 1, "CometBFT was restarted")
	require.Equal(t, server, childAt(r.tree(), consensusPath+"/abci").Live.Incarnation, "the ABCI server was restarted")
	t.Logf("%d bad things in %v: %v; %d blocks meanwhile", n, took.Round(time.Millisecond), done,
		now.height-before.height)
	r.finish()
}

// abciInfo asks for Info through CometBFT's RPC.
func (r *cometRig) abciInfo(ctx context.Context, hc *http.Client) (height int64, hash []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://comet/",
		strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"abci_info"}`))

	if err != nil {
		return 0, nil, err
	}
	resp, err := hc.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()

	var answer struct {
		Result struct {
			Response struct {
				Height int64  `json:"last_block_height,string"`
				Hash   []byte `json:"last_block_app_hash"`
			} `json:"response"`
		} `json:"result"`
		Error json.RawMessage `json:"error"`
	}

	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 0, nil, err
	}
	if answer.Error != nil {
		return 0, nil, fmt.Errorf("abci_info: %s", answer.Error)
	}

	return answer.Result.Response.Height, answer.Result.Response.Hash, nil
}

// While a block is between FinalizeBlock's answer and Commit, Info is asked over and over, by RPC
// and on the socket. Info returns the committed height and hash and no other, and the block is
// committed. COPPICE_COMET_INFOS is how often per block and way.
func TestAStormOfInfoBetweenFinalizeBlockAndCommit(t *testing.T) {
	n, seed, long := campaign(t, "COPPICE_COMET_INFOS", 50)
	r := newCometRig(t, plan.Default, seed, true)
	socket := r.abciSocket()
	hc := &http.Client{Timeout: cometWait,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix",
				filepath.Join(comethome.SocketDir(comethome.Dir(r.home)), "rpc.sock"))
		}}}
	defer hc.CloseIdleConnections()

	blocks := 3
	if long {
		blocks = 20
	}

	asked := 0
	began := time.Now()

	for range blocks {
		var err error
		var held int64
		r.at(commitSent, func(m moment) { // CometBFT's Commit waits until this returns
			held = m.Height
			err = r.storm(hc, socket, n, m.Height-1)
		})
		require.NoError(t, err)
		asked += 2 * n
		r.await("the block that was held", func(f facts) bool { return f.height >= held })
	}

	require.Len(t, r.progress(2).comets, 1)
	t.Logf("%d times Info between FinalizeBlock and Commit of %d blocks in %v: always what was committed", asked,
		blocks, time.Since(began).Round(time.Millisecond))
	r.finish()
}

func (r *cometRig) storm(hc *http.Client, socket string, n int, want int64) error {
	ctx, cancel := r.bounded()
	defer cancel()

	status, err := r.cl.Status(ctx)
	if err != nil {
		return err
	}

	check := func(height int64, hash []byte, err error) error {
		if err == nil && (height != want || !bytes.Equal(hash, status.AppHash) || uint64(want) != status.Height) {
			err = fmt.Errorf("Info answers height %d, %x; committed is %d, %x", height, hash, status.Height,
				status.AppHash)
		}
		return err
	}
	errs := make(chan error, 2)
	go func() {
		c, err := comettest.Dial(socket)
		if err != nil {
			errs <- err
			return
		}
		defer c.Close()

		for range n {
			if err = check(c.Info()); err != nil {
				break
			}
		}

		errs <- err
	}()

	go func() {
		var err error
		for range n {
			if err = check(r.abciInfo(ctx, hc)); err != nil {
				break
			}
		}
		errs <- err
	}()

	return errors.Join(<-errs, <-errs)
}
