package node

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/ordering"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/plan"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// byHand is a driver that does nothing: the test drives the core.
type byHand struct{}

func (byHand) Name() string { return "by hand" }

func (byHand) Start(consensus.Core) supervisor.StartFunc {
	return supervisor.Start(func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
}

// hand drives the transaction core of a node.
type hand struct {
	*Node
	t     *testing.T
	home  string
	rec   *suptest.Recorder
	stop  context.CancelFunc
	ended chan error

	ordering ordering.Client
	pool     mempool.Client
	store    storage.Client
	log      logger.Client
	clock    time.Time
}

func drive(t *testing.T) *hand {
	t.Helper()
	dir := t.TempDir()
	_, err := home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Chaos})
	require.NoError(t, err)
	h := driveHome(t, dir)
	_, err = h.ordering.InitChain(t.Context(), h.genesis)
	require.NoError(t, err)
	return h
}

func driveHome(t *testing.T, home string, opts ...Option) *hand {
	t.Helper()
	c, err := config.Load(home)
	require.NoError(t, err)
	h := &hand{t: t, home: home, rec: suptest.NewRecorder(), ended: make(chan error, 1),
		clock: time.Now().Truncate(time.Millisecond)}
	h.Node, err = New(home, c, append([]Option{WithDriver(byHand{}), WithObserver(h.rec)}, opts...)...)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	go func() { h.ended <- h.Run(ctx) }()
	_, err = h.Addr(t.Context())
	require.NoError(t, err)
	h.rec.Settle(t, h.Supervisor())
	dir := h.core.Load().dir
	h.ordering, h.pool = ordering.NewClient(dir), mempool.NewClient(dir, h.backends)
	h.store, h.log = storage.NewClient(dir), logger.NewClient(dir)

	return h
}

func (h *hand) close() {
	h.t.Helper()
	h.stop()
	require.NoError(h.t, <-h.ended)
}

func (h *hand) tx(op kv.Op, valid time.Duration) []byte {
	h.t.Helper()
	body, err := kv.Encode(op)
	require.NoError(h.t, err)
	tx := chain.NewTx("kv", body, 0)
	tx.ValidUntil = h.clock.Add(valid).Truncate(time.Millisecond)
	raw, err := tx.Encode()
	require.NoError(h.t, err)
	return raw
}

func (h *hand) submit(txs ...[]byte) []chain.Submitted {
	h.t.Helper()
	out, err := h.pool.Submit(h.t.Context(), txs)
	require.NoError(h.t, err)
	return out
}

// next makes the next block.
func (h *hand) next(txs ...[]byte) chain.Block {
	h.t.Helper()
	s, err := h.store.State(h.t.Context())
	require.NoError(h.t, err)
	h.clock = h.clock.Add(time.Millisecond)
	b := chain.Block{ChainID: s.ChainID, Period: s.Period, Height: s.Next(), Time: h.clock, Txs: txs}
	b.Hash = b.ContentHash()
	return b
}

func (h *hand) order(b chain.Block) chain.Staged {
	h.t.Helper()
	s, err := h.ordering.Order(h.t.Context(), b)
	require.NoError(h.t, err)
	return s
}

func (h *hand) commit(b chain.Block) chain.State {
	h.t.Helper()
	s, err := h.ordering.Commit(h.t.Context(), b.Height)
	require.NoError(h.t, err)
	return s
}

// appended returns the last index of the log, after everything appended so far is durable.
func (h *hand) appended() uint64 {
	h.t.Helper()
	last, err := h.log.Fence(h.t.Context())
	require.NoError(h.t, err)
	return last
}

// cut kills a child of the core and waits until it is there again.
func (h *hand) cut(path string) {
	h.t.Helper()
	before, _ := h.Supervisor().Tree().Find(path)
	require.NoError(h.t, h.Supervisor().Kill(path, errors.New("cut")))
	suptest.After(h.t, h.rec, 0, 1, func(e supervisor.ChildStarted) bool {
		return e.Subject() == path && e.Incarnation > before.Incarnation
	})
	h.rec.Settle(h.t, h.Supervisor())
}

const corePath = "coppice/node/transactions"

// A block that is delivered again is compared by chain, height and hash. The same block appends
// nothing and gets the same answer, both before its commit and after.
func TestABlockDeliveredAgainAppendsNothing(t *testing.T) {
	h := drive(t)
	defer h.close()

	b := h.next(h.tx(kv.Add([]byte("n"), 1), time.Minute))
	first := h.order(b)
	end := h.appended()
	again := h.order(b)
	require.Equal(t, first.AppHash, again.AppHash)
	require.Equal(t, end, h.appended())

	h.commit(b)
	end = h.appended()
	require.Equal(t, first.AppHash, h.order(b).AppHash, "delivered again after its commit")
	h.commit(b)
	require.Equal(t, end, h.appended())
	value, _, _, err := h.store.Get(t.Context(), []byte("n"), 0)
	require.NoError(t, err)
	require.Equal(t, "1", string(value), "applied once (I2)")
}

// Two different blocks for one height mean that consensus is broken: the process ends and says so.
func TestAnotherBlockForADecidedHeightStopsTheNode(t *testing.T) {
	for _, when := range []string{"before the commit", "after it"} {
		t.Run(when, func(t *testing.T) {
			h := drive(t)
			b := h.next(h.tx(kv.Add([]byte("n"), 1), time.Minute))
			other := b
			other.Time = b.Time.Add(time.Second)
			other.Hash = other.ContentHash()
			h.order(b)
			if when == "after it" {
				h.commit(b)
			}

			_, err := h.ordering.Order(t.Context(), other)
			require.ErrorIs(t, err, engines.ErrDown)
			err = <-h.ended
			require.ErrorIs(t, err, ordering.ErrConflict)
			require.ErrorContains(t, err, "block 1 of test")
			require.NotEqual(t, exit.Done, exit.Code(err))
		})
	}
}

func TestABlockOutOfTurnIsItsDriversFault(t *testing.T) {
	h := drive(t)
	defer h.close()

	b := h.next()
	b.Height = 5
	_, err := h.ordering.Order(t.Context(), b)
	require.ErrorIs(t, err, ordering.ErrHeight)
	b.Height, b.ChainID = 1, "other"
	_, err = h.ordering.Order(t.Context(), b)
	require.ErrorContains(t, err, "another chain")
	_, err = h.ordering.Commit(t.Context(), 1)
	require.ErrorIs(t, err, ordering.ErrNotStaged)
	_, err = h.ordering.InitChain(t.Context(), &logv1.ChainStarted{ChainId: "other"})
	require.ErrorContains(t, err, "chain test (period 0) has already started")
	b = h.next()
	h.order(b)
	require.EqualValues(t, 1, h.commit(b).Height, "and nothing stopped")
}

// A block that was decided and not committed is executed again after a restart, but only staged.
// Its driver commits it.
func TestALeftoverIsStagedAndNotCommitted(t *testing.T) {
	for _, path := range []string{corePath + "/ordering", corePath + "/storage", corePath + "/mempool/pool",
		"coppice/node/logger", "coppice/node/router"} {
		t.Run(path, func(t *testing.T) {
			h := drive(t)
			defer func() { h.close() }()

			one := h.next(h.tx(kv.Add([]byte("n"), 1), time.Minute))
			h.order(one)
			h.commit(one)
			two := h.next(h.tx(kv.Add([]byte("n"), 1), time.Minute))
			staged := h.order(two)
			end := h.appended()

			h.cut(path)
			standing, err := h.ordering.Info(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, 1, standing.Committed.Height, "Info does not count what is staged")
			require.NotNil(t, standing.Leftover)
			require.True(t, standing.Leftover.Same(two))
			value, _, _, err := h.store.Get(t.Context(), []byte("n"), 0)
			require.NoError(t, err)
			require.Equal(t, "1", string(value))
			require.Equal(t, end, h.appended(), "replay appends nothing")

			require.Equal(t, staged.AppHash, h.commit(two).AppHash, "the same app hash after a replay (I3)")
			value, _, _, err = h.store.Get(t.Context(), []byte("n"), 0)
			require.NoError(t, err)
			require.Equal(t, "2", string(value))
		})
	}
}

// A block refuses transactions that it must not apply, the same ones on every node.
func TestRefusalsAreDeterministic(t *testing.T) {
	h := drive(t)
	defer h.close()

	add := kv.Add([]byte("n"), 1)
	good := h.tx(add, time.Minute)
	unknown, err := chain.Tx{Backend: "nobody", ValidUntil: h.clock.Add(time.Minute)}.Encode()
	require.NoError(t, err)
	one := h.next(
		good,
		good,                  // repeated in the block
		h.tx(add, -time.Hour), // expired
		h.tx(add, time.Hour),  // too early
		[]byte{1, 0},          // no transaction
		unknown,               // of a backend that nobody has
		[]byte("=no key"),     // plain, and refused by kvstore
		h.tx(kv.Require([]byte("n"), []byte("7")), time.Minute), // fails
		make([]byte, 2<<20), // too long
	)

	codes := func(s chain.Staged) (out []logv1.Code) {
		for _, r := range s.Results {
			out = append(out, r.Code)
		}
		return out
	}
	staged := h.order(one)
	want := []logv1.Code{
		logv1.Code_CODE_OK, logv1.Code_CODE_REPEATED, logv1.Code_CODE_EXPIRED, logv1.Code_CODE_TOO_EARLY,
		logv1.Code_CODE_MALFORMED,
		logv1.Code_CODE_MALFORMED, logv1.Code_CODE_MALFORMED, logv1.Code_CODE_FAILED, logv1.Code_CODE_LIMIT,
	}
	require.Equal(t, want, codes(staged))
	h.cut(corePath + "/ordering")
	require.Equal(t, want, codes(h.order(one)))
	h.commit(one)
	two := h.next(good)
	require.Equal(t, []logv1.Code{logv1.Code_CODE_REPEATED}, codes(h.order(two)), "applied ids are remembered")
	h.commit(two)
	value, _, _, err := h.store.Get(t.Context(), []byte("n"), 0)
	require.NoError(t, err)
	require.Equal(t, "1", string(value))
}

// The same id submitted twice has one effect and gets the same answer.
func TestSubmittedTwiceAnsweredTheSame(t *testing.T) {
	h := drive(t)
	defer h.close()

	tx := h.tx(kv.Add([]byte("n"), 1), time.Minute)
	out := h.submit(tx, tx)
	require.Equal(t, out[0], out[1])
	require.NoError(t, out[0].Err)
	end := h.appended()
	require.Equal(t, out[:1], h.submit(tx))
	require.Equal(t, end, h.appended(), "one TxLaunched")
	b := h.next(tx)
	h.order(b)
	h.commit(b)
	require.Equal(t, out[:1], h.submit(tx), "also after its result")
	require.Equal(t, end+2, h.appended())

	for _, wait := range []func(context.Context, []chain.TxID) ([]chain.Ending, error){h.pool.Look, h.pool.Wait} {
		ends, err := wait(t.Context(), []chain.TxID{out[0].ID, {9}})
		require.NoError(t, err)
		require.Equal(t, logv1.Code_CODE_OK, ends[0].Result.Code)
		require.False(t, ends[1].Known)
	}
}

func TestWhatIsRefusedIsNotLogged(t *testing.T) {
	h := drive(t)
	defer h.close()

	end := h.appended()
	unknown, err := chain.Tx{Backend: "nobody", ValidUntil: h.clock.Add(time.Minute)}.Encode()
	require.NoError(t, err)
	bad, err := chain.Tx{Backend: "kv", ValidUntil: h.clock.Add(time.Minute), Body: []byte("no operations")}.Encode()
	require.NoError(t, err)

	for i, want := range []error{
		chain.ErrMalformedTx, chain.ErrUnknownBackend, chain.ErrBadBody, chain.ErrTooLarge, chain.ErrExpired,
		chain.ErrTooEarly,
	} {
		raw := [][]byte{
			{1, 2}, unknown, bad, h.tx(kv.Put([]byte("k"), make([]byte, 1<<20)), time.Minute),
			h.tx(kv.Add([]byte("n"), 1), -time.Hour), h.tx(kv.Add([]byte("n"), 1), time.Hour),
		}[i]
		require.ErrorIs(t, h.submit(raw)[0].Err, want)
	}

	require.Equal(t, end, h.appended())
}

// Every acknowledged transaction ends in a result or in TxExpired (I1). Waiters learn of the end,
// and it survives a restart.
func TestWhatIsNeverOrderedExpires(t *testing.T) {
	h := drive(t)
	defer func() { h.close() }()

	tx := h.tx(kv.Add([]byte("n"), 1), 30*time.Second)
	id := h.submit(tx)[0].ID
	waited := make(chan []chain.Ending, 1)
	go func() {
		ends, err := h.pool.Wait(context.Background(), []chain.TxID{id})
		if err == nil {
			waited <- ends
		}
	}()

	h.clock = h.clock.Add(time.Minute)
	b := h.next()
	h.order(b)
	h.commit(b)
	ends := <-waited
	require.NotNil(t, ends[0].Expired)
	require.WithinDuration(t, b.Time, *ends[0].Expired, 0)

	h.cut("coppice/node/logger") // all of the node anew
	ends, err := h.pool.Look(t.Context(), []chain.TxID{id})
	require.NoError(t, err)
	require.NotNil(t, ends[0].Expired)
	stat, err := h.pool.Stat(t.Context())
	require.NoError(t, err)
	require.Zero(t, stat.Txs)
}

// Acknowledged transactions are offered again after every restart, in the order of their
// acknowledgment, until they have a result (I1).
func TestThePoolRemembers(t *testing.T) {
	h := drive(t)
	a, b, c := h.tx(kv.Add([]byte("a"), 1), time.Minute), h.tx(kv.Add([]byte("b"), 1),
		time.Minute), h.tx(kv.Add([]byte("c"), 1), time.Minute)
	h.submit(a)
	h.submit(b, c)
	h.cut(corePath + "/mempool/pool")
	txs, err := h.pool.Take(t.Context(), 10, 1<<20)
	require.NoError(t, err)
	require.Equal(t, [][]byte{a, b, c}, txs)
	blk := h.next(a)
	h.order(blk)
	h.commit(blk)
	h.close()

	h = driveHome(t, h.home)
	defer func() { h.close() }()

	txs, err = h.pool.Take(t.Context(), 10, 1<<20)
	require.NoError(t, err)
	require.Equal(t, [][]byte{b, c}, txs)
	txs, err = h.pool.Take(t.Context(), 1, 1<<20)
	require.NoError(t, err)
	require.Equal(t, [][]byte{b}, txs)
	txs, err = h.pool.Take(t.Context(), 10, 1)
	require.NoError(t, err)
	require.Equal(t, [][]byte{b}, txs, "at least one, however long")
	stat, err := h.pool.Stat(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 3, stat.Floor, "TxLaunched of b: the log may be cut below")
}

// I5: an incarnation that was replaced and still runs can neither order nor write.
func TestAReplacedEngineIsFenced(t *testing.T) {
	h := drive(t)
	defer h.close()

	contexts := make(chan context.Context, 10)
	sup, err := supervisor.New(supervisor.Spec{Name: "drivers",
		Intensity: supervisor.Intensity{Max: 5, Period: time.Hour}, Build: supervisor.Children(
			supervisor.Child{ID: "driver", Start: supervisor.Start(func(ctx context.Context) error {
				contexts <- context.WithoutCancel(ctx) // deaf, as an orphan is
				<-ctx.Done()
				return context.Cause(ctx)
			})},
		)})
	require.NoError(t, err)
	drivers, err := sup.Start(context.Background())
	require.NoError(t, err)
	defer drivers.Stop(context.Background())

	old := <-contexts
	_, err = h.ordering.Info(old)
	require.NoError(t, err)
	require.NoError(t, drivers.Kill("driver", errors.New("cut")))
	young := <-contexts
	_, err = h.ordering.Info(young)
	require.NoError(t, err)

	_, err = h.ordering.Order(old, h.next())
	require.ErrorIs(t, err, supervisor.ErrFenced)
	_, err = h.log.Append(young, eventlog.Record{Kind: chain.KindBase})
	require.NoError(t, err)
	_, err = h.log.Append(old, eventlog.Record{Kind: chain.KindBase})
	require.ErrorIs(t, err, supervisor.ErrFenced)

	// Storage and the pool were replaced by younger ones, which the caller's group never knew.
	h.cut(corePath)
	_, err = h.store.SameGeneration().Begin(young, h.next())
	require.ErrorIs(t, err, supervisor.ErrFenced)
	require.ErrorIs(t, h.pool.Place(young, h.next(), nil), supervisor.ErrFenced)
}
