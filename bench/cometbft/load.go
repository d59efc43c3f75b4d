package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	rpchttp "github.com/cometbft/cometbft/rpc/client/http"
	"github.com/cometbft/cometbft/types"
)

// load submits transactions "key=value" to a target, each with its own key, and looks for them in
// CometBFT's blocks. A transaction counts as committed when CometBFT reports its block's header,
// which happens after the application's Commit.
type load struct {
	t     *target
	http  *http.Client
	ws    *rpchttp.HTTP
	value string
	stop  context.CancelFunc
	ended chan error

	mu      sync.Mutex
	sent    []time.Time     // by the transaction's number; zero once it is committed
	latency []time.Duration // of the transactions committed since the phase began
	blocks  int
	phase   int // number of the first transaction of the phase
	tokens  chan struct{}
	next    atomic.Int64
}

// Limits of the submitters.
const (
	submitters = 8
	maxBatch   = 100
)

func newLoad(ctx context.Context, t *target, size int) (*load, error) {
	ctx, stop := context.WithCancel(ctx)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 2 * submitters
	l := &load{t: t, http: &http.Client{Transport: transport}, stop: stop, ended: make(chan error, 1)}
	b := make([]byte, size/2+1)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}

	l.value = hex.EncodeToString(b)[:size]
	var err error
	if l.ws, err = rpchttp.New(t.rpc, "/websocket"); err != nil {
		return nil, err
	}
	if err := l.ws.Start(); err != nil {
		return nil, err
	}
	headers, err := l.ws.Subscribe(ctx, "bench", types.EventQueryNewBlockHeader.String(), 10_000)
	if err != nil {
		return nil, err
	}

	type seen struct {
		height int64
		at     time.Time
	}
	told := make(chan seen, 10_000)
	go func() {
		defer close(told)
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-headers:
				h := e.Data.(types.EventDataNewBlockHeader).Header
				told <- seen{h.Height, time.Now()}
			}
		}
	}()

	go func() {
		for s := range told {
			if err := l.block(ctx, s.height, s.at); err != nil && ctx.Err() == nil {
				l.ended <- err
				return
			}
		}
	}()

	return l, nil
}

func (l *load) close() {
	l.stop()
	l.ws.Stop()
	l.http.CloseIdleConnections()
}

// block notes the transactions that a block has committed.
func (l *load) block(ctx context.Context, height int64, at time.Time) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/block?height=%d", l.t.rpc, height), nil)
	if err != nil {
		return err
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var answer struct {
		Result struct {
			Block struct {
				Data struct {
					Txs [][]byte `json:"txs"`
				} `json:"data"`
			} `json:"block"`
		} `json:"result"`
	}

	if err := json.Unmarshal(data, &answer); err != nil {
		return fmt.Errorf("block %d: %w", height, err)
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	l.blocks++

	for _, tx := range answer.Result.Block.Data.Txs {
		key, _, ok := bytes.Cut(tx, []byte("="))
		n, err := strconv.Atoi(string(key))
		if !ok || err != nil || n >= len(l.sent) {
			return fmt.Errorf("block %d has a transaction %.40q that was not sent", height, tx)
		}
		if l.sent[n].IsZero() {
			return fmt.Errorf("block %d: transaction %d is committed twice", height, n)
		}
		if n >= l.phase {
			l.latency = append(l.latency, at.Sub(l.sent[n]))
		}
		l.sent[n] = time.Time{}

		select {
		case l.tokens <- struct{}{}:
		default: // the open loop uses no tokens
		}
	}

	return nil
}

// phaseResult is the result of one phase.
type phaseResult struct {
	rate    float64 // committed per second
	latency []time.Duration
	blocks  int
	txs     int
}

func (l *load) begin(tokens int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phase, l.latency, l.blocks = len(l.sent), nil, 0
	l.tokens = make(chan struct{}, tokens)
	for range tokens {
		l.tokens <- struct{}{}
	}
}

func (l *load) end(d time.Duration) phaseResult {
	l.mu.Lock()
	defer l.mu.Unlock()
	return phaseResult{rate: float64(len(l.latency)) / d.Seconds(), latency: l.latency, blocks: l.blocks,
		txs: len(l.latency)}
}

// closedLoop keeps n transactions in flight for d: a committed transaction makes room for the next.
func (l *load) closedLoop(ctx context.Context, n int, d time.Duration) (phaseResult, error) {
	l.begin(n)
	return l.drive(ctx, d, func(ctx context.Context) int {
		select {
		case <-ctx.Done():
			return 0
		case <-l.tokens:
		}

		got := 1
		for ; got < maxBatch; got++ {
			select {
			case <-l.tokens:
				continue
			default:
			}
			break
		}

		return got
	})
}

// openLoop submits rate transactions per second, evenly, however many are in flight.
func (l *load) openLoop(ctx context.Context, rate float64, d time.Duration) (phaseResult, error) {
	l.begin(0)
	begin := time.Now()
	var given int
	var mu sync.Mutex
	return l.drive(ctx, d, func(ctx context.Context) int {
		for {
			mu.Lock()
			due := min(int(time.Since(begin).Seconds()*rate)-given, maxBatch)
			if due > 0 {
				given += due
				mu.Unlock()
				return due
			}
			mu.Unlock()

			select {
			case <-ctx.Done():
				return 0
			case <-time.After(time.Millisecond):
			}
		}
	})
}

// drive runs the submitters for d, and then waits for the transactions in flight. take returns how
// many transactions a submitter has to submit next.
func (l *load) drive(ctx context.Context, d time.Duration, take func(context.Context) int) (phaseResult, error) {
	during, stop := context.WithTimeout(ctx, d)
	defer stop()

	failed := make(chan error, submitters)
	var all sync.WaitGroup

	for range submitters {
		all.Go(func() {
			for during.Err() == nil {
				if k := take(during); k > 0 {
					if err := l.submit(ctx, k); err != nil {
						failed <- err
						return
					}
				}
			}
		})
	}

	var err error
	select {
	case <-during.Done():
	case err = <-failed:
	case err = <-l.ended:
	}

	r := l.end(d)
	stop()
	all.Wait()
	if err == nil {
		err = l.settle(ctx)
	}

	return r, errors.Join(err, ctx.Err())
}

// settle waits until no transaction is in flight. It returns an error if one stays without a block.
func (l *load) settle(ctx context.Context) error {
	open := 0
	for range 500 {
		open = 0
		l.mu.Lock()
		for _, at := range l.sent[l.phase:] {
			if !at.IsZero() {
				open++
			}
		}
		l.mu.Unlock()

		if open == 0 {
			return nil
		}

		select {
		case err := <-l.ended:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}

	return fmt.Errorf("%d transactions were not committed within 10 s", open)
}

// submit sends k new transactions in one request.
func (l *load) submit(ctx context.Context, k int) error {
	txs := make([][]byte, k)
	l.mu.Lock()
	now := time.Now()
	for i := range txs {
		txs[i] = fmt.Appendf(nil, "%012d=%s", len(l.sent), l.value)
		l.sent = append(l.sent, now)
	}
	l.mu.Unlock()

	if l.t.byAPI {
		outs, err := l.t.api.SubmitMany(ctx, txs, false)
		for _, o := range outs {
			err = errors.Join(err, o.Err)
		}
		return err
	}

	return l.broadcast(ctx, txs)
}

// broadcast sends transactions in one JSON-RPC batch.
func (l *load) broadcast(ctx context.Context, txs [][]byte) error {
	body := []byte{'['}
	for i, tx := range txs {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, `{"jsonrpc":"2.0","id":`...)
		body = strconv.AppendInt(body, int64(i), 10)
		body = append(body, `,"method":"broadcast_tx_async","params":{"tx":"`...)
		body = base64.StdEncoding.AppendEncode(body, tx)
		body = append(body, `"}}`...)
	}

	body = append(body, ']')
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.t.rpc, bytes.NewReader(body))
	if err != nil {
		return err
	}

	req.Header.Set("Content-Type", "application/json")
	resp, err := l.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if bytes.Contains(data, []byte(`"error":`)) {
		return fmt.Errorf("broadcast: %.300s", data)
	}

	return nil
}
