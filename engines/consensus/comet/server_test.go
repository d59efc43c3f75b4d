package comet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/consensus/comet/comettest"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/wire"
	"github.com/coppice-go/coppice/supervisor"
)

// served runs a server over c, and returns it with the path of its first endpoint.
func served(t *testing.T, c *fakeCore) (*server, string) {
	t.Helper()
	home := t.TempDir()
	var s *server
	sup, err := supervisor.New(supervisor.Spec{Name: "test", Build: supervisor.Children(supervisor.Child{
		ID: "abci", Start: func(ctx context.Context) (supervisor.Service, error) {
			release, err := comethome.HoldSockets(home)
			s = &server{
				app: &app{core: c.core("test"), health: newHealth(nil), log: zap.NewNop()},
				dir: comethome.SocketDir(home), release: release,
				limit: 1 << 20, log: zap.NewNop(), ctx: ctx,
			}
			return s, err
		},
	})})
	require.NoError(t, err)
	run, err := sup.Start(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, run.Stop(context.Background())) })
	path, err := s.open()
	require.NoError(t, err)

	return s, path
}

func dial(t *testing.T, path string) *comettest.Client {
	t.Helper()
	c, err := comettest.Dial(path)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func block(height int64, txs ...string) comettest.Block {
	b := comettest.Block{Height: height, Hash: fmt.Appendf(nil, "block %d", height),
		Time: time.Unix(1000+height, 0).UTC()}
	for _, tx := range txs {
		b.Txs = append(b.Txs, []byte(tx))
	}
	return b
}

func begin(t *testing.T, c *comettest.Client) {
	t.Helper()
	_, err := c.InitChain("test", 1, nil, time.Unix(1000, 0))
	require.NoError(t, err)
}

func height(t *testing.T, c *comettest.Client) int64 {
	t.Helper()
	h, _, err := c.Info()
	require.NoError(t, err)
	return h
}

// Info returns the committed height, however often it is called between FinalizeBlock and Commit,
// and changes nothing.
func TestInfoTellsOnlyWhatIsCommitted(t *testing.T) {
	chain := newFakeCore()
	_, path := served(t, chain)
	c, q := dial(t, path), dial(t, path)
	begin(t, c)
	require.Zero(t, height(t, q))

	for h := int64(1); h <= 3; h++ {
		f, err := c.FinalizeBlock(block(h, "a=b"))
		require.NoError(t, err)
		for range 100 {
			require.Equal(t, h-1, height(t, q))
		}

		_, err = c.Commit()
		require.NoError(t, err)
		got, hash, err := q.Info()
		require.NoError(t, err)
		require.Equal(t, h, got)
		require.Equal(t, f.AppHash, hash)
	}

	require.Equal(t, 6, chain.appends)
}

// InitChain may be repeated. A FinalizeBlock that is delivered again, even by another child, gets
// the same answer and logs nothing.
func TestWhatIsDeliveredAgainAnswersTheSame(t *testing.T) {
	chain := newFakeCore()
	s, path := served(t, chain)
	c := dial(t, path)
	begin(t, c)
	begin(t, c)
	first, err := c.FinalizeBlock(block(1, "a=b", "c=d"))
	require.NoError(t, err)
	again, err := c.FinalizeBlock(block(1, "a=b", "c=d"))
	require.NoError(t, err)
	require.Equal(t, first, again)

	path, err = s.open() // as after the death of the child
	require.NoError(t, err)
	_, _, err = c.Info()
	require.Error(t, err, "the connection of a replaced child is closed")
	c = dial(t, path)
	require.Zero(t, height(t, c), "a staged block does not count")
	again, err = c.FinalizeBlock(block(1, "a=b", "c=d"))
	require.NoError(t, err)
	require.Equal(t, first, again)
	_, err = c.Commit()
	require.NoError(t, err)
	require.EqualValues(t, 1, height(t, c))
	require.Equal(t, 2, chain.appends)
}

// A request that cannot be answered closes its own connection and no other, without an exception.
func TestWhatCannotBeAnsweredClosesItsConnectionOnly(t *testing.T) {
	chain := newFakeCore()
	_, path := served(t, chain)
	good := dial(t, path)
	begin(t, good)

	for name, f := range map[string]func(c *comettest.Client) error{
		"garbage": func(c *comettest.Client) error {
			_, err := c.Conn.Write(comettest.Frame([]byte("garbage")))
			return err
		},
		"oversized": func(c *comettest.Client) error {
			_, err := c.Conn.Write([]byte{0xff, 0xff, 0xff, 0x7f})
			return err
		},
		"Commit without FinalizeBlock": func(c *comettest.Client) error { return c.SendCommit() },
		"a height out of order":        func(c *comettest.Client) error { return c.SendFinalizeBlock(block(9)) },
		"no height":                    func(c *comettest.Client) error { return c.SendFinalizeBlock(block(0)) },
		"another chain": func(c *comettest.Client) error {
			_, err := c.InitChain("other", 1, nil, time.Now())
			require.Error(t, err)
			return nil
		},
	} {
		c := dial(t, path)
		require.NoError(t, f(c), name)
		_, err := c.Conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, name)
		require.Zero(t, height(t, good), name)
	}

	for range 2 * maxConns { // early hang-ups, and a frame that never ends
		c := dial(t, path)
		if _, err := c.Conn.Write([]byte{100, 1, 2}); err != nil {
			require.ErrorIs(t, err, syscall.EPIPE, "refused while earlier connections are still being closed")
		}
		require.NoError(t, c.Close())
		require.Zero(t, height(t, good))
	}

	_, err := good.FinalizeBlock(block(1))
	require.NoError(t, err)
}

// A query that waits delays only its own caller.
func TestAStuckQueryDoesNotHaltTheConsensus(t *testing.T) {
	chain := newFakeCore()
	chain.blocked = make(chan struct{})
	_, path := served(t, chain)
	stuck, c := dial(t, path), dial(t, path)
	begin(t, c)
	require.NoError(t, stuck.SendQuery([]byte("k")))

	for h := int64(1); h <= 5; h++ {
		_, err := c.FinalizeBlock(block(h))
		require.NoError(t, err)
		_, err = c.Commit()
		require.NoError(t, err)
	}

	close(chain.blocked)
	value, _, log, err := c.Query("/key", []byte("k"), 0)
	require.NoError(t, err, log)
	require.Equal(t, "value of k", string(value))
	_, code, log, err := c.Query("/elsewhere", []byte("k"), 0)
	require.NoError(t, err)
	require.EqualValues(t, codeQuery, code)
	require.Contains(t, log, "/elsewhere")
}

// Every operation waits for a core that restarts, and the connection does not notice. What the core
// has lost is sent to it again.
func TestACoreThatRestartsIsWaitedFor(t *testing.T) {
	for _, what := range []string{"info", "init", "order", "commit"} {
		t.Run(what, func(t *testing.T) {
			chain := newFakeCore()
			times := 3
			chain.fail = func(op string) error {
				if op != what || times == 0 {
					return nil
				}

				times--
				if op == "commit" {
					chain.decided = nil // its OrderDecided was not durable
				}
				return &engines.DownError{Engine: "ordering", Incarnation: 1, Delivered: true,
					Cause: errors.New("killed")}
			}
			_, path := served(t, chain)
			c := dial(t, path)
			begin(t, c)
			require.Zero(t, height(t, c))
			f, err := c.FinalizeBlock(block(1, "a=b"))
			require.NoError(t, err)
			_, err = c.Commit()
			require.NoError(t, err)
			got, hash, err := c.Info()
			require.NoError(t, err)
			require.EqualValues(t, 1, got)
			require.Equal(t, f.AppHash, hash)
			require.Zero(t, times)
		})
	}
}

// When a child replaces another, no request of the old child is still under way.
func TestANewEndpointWaitsForWhatTheOldOneAsked(t *testing.T) {
	chain := newFakeCore()
	s, path := served(t, chain)
	c := dial(t, path)
	begin(t, c)
	_, err := c.FinalizeBlock(block(1))
	require.NoError(t, err)
	entered := make(chan struct{}, 100)
	chain.mu.Lock()
	chain.fail = func(op string) error {
		if op == "commit" {
			entered <- struct{}{}
			return &engines.DownError{Engine: "ordering", Incarnation: 1}
		}
		return nil
	}
	chain.mu.Unlock()

	require.NoError(t, c.SendCommit())
	<-entered
	path, err = s.open()
	require.NoError(t, err)
	for len(entered) > 0 {
		<-entered
	}

	c = dial(t, path)
	require.Zero(t, height(t, c))
	require.Empty(t, entered, "the replaced child committed after its successor had connected")
}

func TestProposals(t *testing.T) {
	chain := newFakeCore()
	_, path := served(t, chain)
	c := dial(t, path)
	begin(t, c)
	for _, tx := range []string{"ours=1", "ours=2", "bad=ours", "both=1"} {
		chain.submit(tx)
	}

	at := time.Unix(2000, 0)
	txs, err := c.Prepare(1, at, 1000, []byte("theirs=1"), []byte("bad=theirs"), []byte("both=1"), []byte("theirs=1"))
	require.NoError(t, err)
	want := [][]byte{[]byte("theirs=1"), []byte("both=1"), []byte("ours=1"), []byte("ours=2")}
	require.Equal(t, want, txs, "the mempool's order, then ours, without refused transactions and repetitions")

	again, err := c.Prepare(1, at, 1000, []byte("news=1"))
	require.NoError(t, err)
	require.Equal(t, want, again, "only the same proposal may be signed again")

	txs, err = c.Prepare(1, at.Add(1), protoSize(8)+protoSize(6), []byte("theirs=1"))
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("theirs=1"), []byte("ours=1")}, txs, "no more transactions than fit")

	ok, err := c.Process(block(1, "a=b", "a=b"))
	require.NoError(t, err)
	require.True(t, ok)
	ok, err = c.Process(comettest.Block{Height: 1, Txs: [][]byte{{1, 2, 3}}})
	require.NoError(t, err)
	require.False(t, ok, "bytes that are not a transaction")

	code, _, err := c.CheckTx([]byte("x=1"), false)
	require.NoError(t, err)
	require.Zero(t, code)
	code, log, err := c.CheckTx([]byte("bad"), false)
	require.NoError(t, err)
	require.EqualValues(t, codeRefused, code)
	require.Contains(t, log, "the pool refuses it")
	_, err = c.FinalizeBlock(block(1, "x=1"))
	require.NoError(t, err)
	_, err = c.Commit()
	require.NoError(t, err)
	code, _, err = c.CheckTx([]byte("x=1"), false)
	require.NoError(t, err)
	require.NotZero(t, code, "the transaction was applied")
}

// piped serves one connection over a pipe. It returns the client's end, and a channel that gets the
// error with which the connection ended.
func piped(s *server) (net.Conn, <-chan error) {
	here, there := net.Pipe()
	ended := make(chan error, 1)
	e := &endpoint{server: s, ctx: context.Background()}
	go func() {
		defer there.Close()
		ended <- e.converse(there)
	}()
	return here, ended
}

// Whatever bytes come, and whatever requests they happen to form: the connection ends by itself,
// with a reason and without an exception, and the next connection is served.
func FuzzConnection(f *testing.F) {
	seed := func(reqs ...*abci.Request) {
		var b []byte
		for _, req := range reqs {
			m, err := req.Marshal()
			require.NoError(f, err)
			b = append(b, comettest.Frame(m)...)
		}
		f.Add(b)
	}

	start := abci.ToRequestInitChain(&abci.RequestInitChain{ChainId: "test", InitialHeight: 1,
		Time: time.Unix(1000, 0)})

	final := abci.ToRequestFinalizeBlock(&abci.RequestFinalizeBlock{Height: 1, Hash: []byte("hash"),
		Time: time.Unix(1001, 0), Txs: [][]byte{[]byte("a=b")}})
	seed()
	seed(abci.ToRequestInfo(&abci.RequestInfo{}), abci.ToRequestEcho("x"), abci.ToRequestFlush())
	seed(start, final, abci.ToRequestCommit())
	seed(start, final, final, abci.ToRequestCommit(), abci.ToRequestCommit())
	seed(abci.ToRequestQuery(&abci.RequestQuery{Path: "/key", Data: []byte("k")}),
		abci.ToRequestCheckTx(&abci.RequestCheckTx{Tx: []byte("x=1")}))

	seed(start, abci.ToRequestPrepareProposal(&abci.RequestPrepareProposal{Height: 1, MaxTxBytes: 100,
		Txs: [][]byte{[]byte("a=1")}}), abci.ToRequestProcessProposal(&abci.RequestProcessProposal{Height: 1,
		Txs: [][]byte{[]byte("a=1")}}))

	seed(abci.ToRequestExtendVote(&abci.RequestExtendVote{}),
		abci.ToRequestVerifyVoteExtension(&abci.RequestVerifyVoteExtension{}))

	seed(abci.ToRequestListSnapshots(&abci.RequestListSnapshots{}),
		abci.ToRequestOfferSnapshot(&abci.RequestOfferSnapshot{}),
		abci.ToRequestOfferSnapshot(&abci.RequestOfferSnapshot{Snapshot: &abci.Snapshot{Height: 1, Chunks: 1}}),
		abci.ToRequestApplySnapshotChunk(&abci.RequestApplySnapshotChunk{Chunk: []byte("c")}),
		abci.ToRequestLoadSnapshotChunk(&abci.RequestLoadSnapshotChunk{}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3})
	f.Add([]byte{100, 1, 2})
	f.Fuzz(func(t *testing.T, in []byte) {
		s := &server{app: &app{core: newFakeCore().core("test"), health: newHealth(nil), log: zap.NewNop()},
			limit: 1 << 16, log: zap.NewNop()}
		bad, ended := piped(s)
		answers := make(chan error, 1)
		go func() { answers <- noExceptions(bad) }()

		_, err := bad.Write(in) // fails if the server hangs up before the end
		if err == nil {
			// A pipe cannot be closed in one direction. Therefore the input is followed by the
			// start of a frame that never ends.
			bad.SetWriteDeadline(time.Now().Add(time.Second))
			bad.Write([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		}

		bad.Close()
		require.Error(t, <-ended)
		require.NoError(t, <-answers)

		good, ended := piped(s)
		c := comettest.On(good)
		_, _, err = c.Info()
		require.NoError(t, err)
		require.NoError(t, c.Close())
		<-ended
	})
}

// noExceptions reads answers until the connection ends.
func noExceptions(c net.Conn) error {
	r := bufio.NewReader(c)
	for {
		b, err := wire.ReadFrame(r, 1<<30, nil)
		if err != nil {
			return nil
		}
		resp := new(abci.Response)
		if err := resp.Unmarshal(b); err != nil {
			return err
		}
		if e := resp.GetException(); e != nil {
			return fmt.Errorf("an exception: %s", e.Error)
		}
	}
}
