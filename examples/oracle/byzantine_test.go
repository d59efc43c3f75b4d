package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/home"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// byzantine is an agent with a key of its own that sends whatever may do harm to four nodes, half
// of it past our pools, to CometBFT's RPC. Everything is signed before it is sent, and the present
// count is that of what honest agents send: the nodes share their processors with it.
type byzantine struct {
	*net
	key    ed25519.PrivateKey
	keys   map[rounds.Agent]ed25519.PublicKey // of all agents
	chain  string
	rpcs   [netSize]string
	web    http.Client // for rpcs
	pools  [netSize]apiv1connect.NodeServiceClient
	copied atomic.Pointer[shot] // a payload of an honest agent
	count  atomic.Uint64        // of that payload

	// sent have an answer, and dropped have none; refused and admitted are answers of pools.
	sent, dropped, refused, admitted atomic.Int64
}

// shot is a payload in both forms in which it is sent, made before it is sent where that can be.
type shot struct {
	raw  []byte
	call []byte // broadcasts it; empty if it is larger than the RPC takes
}

func aim(raw []byte) shot {
	if len(raw) >= 1<<20 {
		return shot{raw: raw}
	}
	return shot{raw, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":"broadcast_tx_async","params":{"tx":%q}}`,
		base64.StdEncoding.EncodeToString(raw))}
}

func (b *byzantine) publicKey(a rounds.Agent) (ed25519.PublicKey, bool) {
	key, ok := b.keys[a]
	return key, ok
}

// follow learns what honest agents send until ctx ends.
func (b *byzantine) follow(ctx context.Context) {
	err := b.clients[0].Follow(ctx, client.FromNow, []string{"TxLaunched"}, func(r client.Record) error {
		raw := r.Message.(*logv1.TxLaunched).Tx
		tx, err := chain.DecodeTx(raw)
		if err != nil || rounds.AgentOf(tx.Body) == "node3" {
			return err
		}
		p, err := rounds.Open(b.chain, tx.Body, b.publicKey)
		if err == nil {
			b.count.Store(p.Count)
		}
		copied := aim(raw)
		b.copied.Store(&copied)
		return nil
	})
	if ctx.Err() == nil {
		b.t.Error(err)
	}
}

// arsenal are signed payloads by the count at which they are sent.
type arsenal struct {
	first uint64
	of    [][]shot
	sent  int
}

// arm signs payloads for the counts from the present one on.
func (b *byzantine) arm(counts, each int) *arsenal {
	a := &arsenal{first: b.count.Load(), of: make([][]shot, counts)}
	for i := range a.of {
		for range each {
			a.of[i] = append(a.of[i], aim(b.payload(a.first+uint64(i))))
		}
	}
	return a
}

// next returns a payload for the present count. One in eight is a copy of an honest one: the same
// transaction, or another one.
func (b *byzantine) next(a *arsenal) shot {
	a.sent++
	if copied := b.copied.Load(); copied != nil && a.sent%8 == 0 {
		if a.sent%16 == 0 {
			return *copied
		}
		tx, err := chain.DecodeTx(copied.raw)
		require.NoError(b.t, err)
		tx.ValidUntil = tx.ValidUntil.Add(time.Duration(a.sent) * time.Millisecond)
		return aim(encoded(b.t, tx))
	}
	of := a.of[min(b.count.Load()-a.first, uint64(len(a.of)-1))]
	return of[a.sent%len(of)]
}

// payload returns one of the kinds of payloads, for a service at the given count.
func (b *byzantine) payload(count uint64) []byte {
	p := rounds.Payload{Agent: "node3", Label: "OracleAbciApp", Count: count,
		ValidUntil: time.Now().Add(time.Minute).Truncate(time.Millisecond),
		Bytes:      fmt.Append(nil, rand.Int64N(1_000_000))}

	switch rand.IntN(8) {
	case 0: // a tick that the FSM does not need
		tick := rounds.Tick{Count: rand.Uint64(), After: time.Now().Add(-time.Duration(rand.IntN(1e9)))}
		return encoded(b.t, tick.Tx(10*time.Minute, time.Now()))
	case 1: // oversize
		if rand.IntN(250) == 0 {
			p.Bytes = bytes.Repeat([]byte("9"), 2<<20)
		}
	case 2:
		p.Count -= rand.Uint64N(min(count, 5) + 1)
	case 3:
		p.Count += rand.Uint64N(1000)
	case 4: // for another chain
		return encoded(b.t, p.Tx("another", b.key))
	case 5:
		p.Bytes = []byte(`{"malformed"`)
	}
	return encoded(b.t, p.Tx(b.chain, b.key))
}

func encoded(t testing.TB, tx chain.Tx) []byte {
	raw, err := tx.Encode()
	require.NoError(t, err)
	return raw
}

// run sends so many payloads a second until ctx ends.
func (b *byzantine) run(ctx context.Context, a *arsenal, rate int) {
	const batch = 20
	var ways [2 * netSize]chan []shot
	for i := range ways {
		ways[i] = make(chan []shot, 10)
		send := b.submit
		if i >= netSize {
			send = b.broadcast
		}
		for range 8 { // an answer comes when the disk has what is taken
			go b.way(ctx, ways[i], func(ctx context.Context, shots []shot) { send(ctx, i%netSize, shots) })
		}
	}

	began := time.Now()
	for i := 0; ; i++ { // what comes late is sent all the same
		due := began.Add(time.Duration(i) * batch * time.Second / time.Duration(rate))
		if engines.Pause(ctx, time.Until(due)) != nil {
			return
		}

		shots := make([]shot, batch)
		for i := range shots {
			shots[i] = b.next(a)
		}
		select {
		case ways[i%len(ways)] <- shots:
		default:
			b.dropped.Add(batch) // the node has not answered the batches before
		}
	}
}

// way sends what comes to one node until ctx ends, one batch after another.
func (b *byzantine) way(ctx context.Context, batches <-chan []shot, send func(context.Context, []shot)) {
	for {
		select {
		case <-ctx.Done():
			return
		case shots := <-batches:
			send(ctx, shots)
		}
	}
}

// submit sends payloads to a pool, once: a client.Client would send what a full pool refuses again
// and again, several times as much as counted.
func (b *byzantine) submit(ctx context.Context, at int, shots []shot) {
	req := &apiv1.SubmitRequest{Wait: apiv1.Wait_WAIT_ACCEPTED}
	for _, s := range shots {
		req.Txs = append(req.Txs, s.raw)
	}
	res, err := b.pools[at].Submit(ctx, connect.NewRequest(req))
	if err != nil {
		b.dropped.Add(int64(len(shots)))
		return
	}

	b.sent.Add(int64(len(shots)))
	for _, o := range res.Msg.Outcomes {
		if o.GetRefused() != nil {
			b.refused.Add(1)
		} else {
			b.admitted.Add(1)
		}
	}
}

func (b *byzantine) broadcast(ctx context.Context, at int, shots []shot) {
	var calls [][]byte
	for _, s := range shots {
		if len(s.call) > 0 {
			calls = append(calls, s.call)
		}
	}
	body := slices.Concat([]byte{'['}, bytes.Join(calls, []byte{','}), []byte{']'})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.rpcs[at], bytes.NewReader(body))
	require.NoError(b.t, err)
	res, err := b.web.Do(req)
	if err != nil {
		b.dropped.Add(int64(len(shots)))
		return
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
		b.dropped.Add(int64(len(shots)))
		return
	}
	b.sent.Add(int64(len(calls)))
}

// waiting returns how many transactions CometBFT's mempool of a node holds.
func (b *byzantine) waiting(at int) (n int) {
	res, err := http.Get(b.rpcs[at] + "/num_unconfirmed_txs")
	require.NoError(b.t, err)
	defer res.Body.Close()
	var answer struct {
		Result struct {
			N int `json:"n_txs,string"`
		} `json:"result"`
	}
	require.NoError(b.t, json.NewDecoder(res.Body).Decode(&answer))
	return answer.Result.N
}

// An agent with its own key sends 1,000 payloads a second to four nodes: copies, oversize ones, old
// and future counts, the signatures of another chain, values that differ. The three honest agents
// agree on prices of honest agents, none of them has an offence, and no mempool has more than the
// bound of the agent. How long their rounds take with it, and without, is printed. Item 73.
// COPPICE_SOAK=1 runs it.
func TestAByzantineAgentChangesNothing(t *testing.T) {
	if os.Getenv("COPPICE_SOAK") == "" {
		t.Skip("a long test: COPPICE_SOAK=1 runs it")
	}

	var key ed25519.PrivateKey
	var chainID string
	keys := map[rounds.Agent]ed25519.PublicKey{}
	b := &byzantine{net: newNet(t, "endless", func(dir string) {
		last := filepath.Join(dir, "node3")
		g, err := home.ReadGenesis(last)
		require.NoError(t, err)
		chainID = g.ChainID
		for _, a := range g.Agents {
			keys[rounds.Agent(a.Name)] = a.Key
		}
		_, key, err = home.ReadAgent(last, g)
		require.NoError(t, err)
		require.NoError(t, os.Remove(filepath.Join(last, home.AgentKeyFile)))
	})}
	b.key, b.keys, b.chain = key, keys, chainID
	transport := client.NewTransport()
	for i := range b.rpcs {
		b.rpcs[i] = b.rpc(i)
		f, err := api.ReadNodeFile(b.home(i))
		require.NoError(t, err)
		b.pools[i] = apiv1connect.NewNodeServiceClient(&http.Client{Transport: transport}, "http://"+f.Address,
			connect.WithAcceptCompression("gzip", nil, nil))
	}
	b.web.Transport = &http.Transport{MaxIdleConnsPerHost: 8, DisableCompression: true}
	defer b.web.CloseIdleConnections()
	defer transport.CloseIdleConnections()
	defer http.DefaultClient.CloseIdleConnections()

	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() { b.follow(ctx) })
	most := 0
	watching.Go(func() {
		for ctx.Err() == nil {
			for i := range netSize {
				most = max(most, b.waiting(i))
			}
			b.check()
			_ = engines.Pause(ctx, 500*time.Millisecond)
		}
	})

	b.rate(5 * time.Second) // warm
	const turns, turn = 5, 8 * time.Second
	var calm, attacked, ratios []float64
	var calmCPU, attackedCPU time.Duration // of a node
	var attack time.Duration
	for range turns {
		before := b.cpu(1)
		calm = append(calm, b.rate(turn))
		calmCPU += (b.cpu(1) - before) / turns

		payloads := b.arm(400, 40)
		began := time.Now()
		attacking, end := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.run(attacking, payloads, 1000)
		}()
		before = b.cpu(1)
		attacked = append(attacked, b.rate(turn))
		attackedCPU += (b.cpu(1) - before) / turns
		end()
		<-done
		attack += time.Since(began)
		ratios = append(ratios, calm[len(calm)-1]/attacked[len(attacked)-1])
	}
	cancel()
	watching.Wait()

	st, _ := b.state(0)
	t.Logf("%.2f rounds/s without, %.2f with (medians of %d turns of %v in turn): %.2f times as long, "+
		"turn by turn %.2f; %.0f payloads/s sent, %d dropped, %d refused and %d taken by pools; at most %d "+
		"transactions in a mempool; CPU of a node in a turn: %v without, %v with; offences %+v", middle(calm),
		middle(attacked), turns, turn, middle(calm)/middle(attacked), ratios,
		float64(b.sent.Load())/attack.Seconds(), b.dropped.Load(), b.refused.Load(), b.admitted.Load(), most, calmCPU,
		attackedCPU, st.Offences)
	require.NotZero(t, st.Offences["node3"].Faults)
	require.LessOrEqual(t, most, 2*16+3*netSize, "16 of the agent, 16 ticks, and those of honest ones")
}

// check requires that the estimate lies between the prices of honest agents, and that these have no
// offence.
func (b *byzantine) check() {
	st, _ := b.state(1)
	for _, a := range []rounds.Agent{"node0", "node1", "node2"} {
		require.Zero(b.t, st.Offences[a].Faults)
	}

	low, high := int64(1<<62), int64(0)
	for a, price := range st.App.Prices {
		if a != "node3" {
			low, high = min(low, price), max(high, price)
		}
	}
	if st.App.Estimate != 0 {
		require.GreaterOrEqual(b.t, st.App.Estimate, low)
		require.LessOrEqual(b.t, st.App.Estimate, high)
	}
}

// middle returns the median.
func middle(of []float64) float64 {
	of = slices.Sorted(slices.Values(of))
	return of[len(of)/2]
}
