package solo

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// core is a transaction core that records the calls to it.
type core struct {
	state    chain.State
	leftover *chain.Block
	offer    chan [][]byte
	calls    []string
	reset    *logv1.ChainReset
	blocks   []chain.Block
	fail     error  // of the next Order
	decide   uint64 // the height of the block that decides on a reset
}

func (c *core) Info(context.Context) (chain.Standing, error) {
	c.calls = append(c.calls, "info")
	return chain.Standing{Committed: c.state, Leftover: c.leftover, Reset: c.reset}, nil
}

func (c *core) InitChain(_ context.Context, rec *logv1.ChainStarted) (chain.State, error) {
	c.calls = append(c.calls, "init")
	if c.reset != nil {
		if err := chain.Succeeds(c.reset, rec); err != nil {
			return c.state, err
		}
		c.state = chain.State{ChainID: rec.ChainId, Period: rec.Period, InitialHeight: rec.InitialHeight,
			Time: time.Unix(0, rec.GenesisTimeNs), Params: rec.Params, Reset: c.state.Reset}
		c.reset = nil
		return c.state, nil
	}
	if c.state.Started() {
		return c.state, nil
	}
	c.state = chain.State{ChainID: rec.ChainId, InitialHeight: rec.InitialHeight,
		Params: chain.DefaultParams()}
	return c.state, nil
}

func (c *core) Reset(_ context.Context, with chain.Renewal) (*logv1.ChainReset, error) {
	c.calls = append(c.calls, "reset")
	if c.reset != nil {
		return c.reset, nil
	}
	var err error
	c.reset, err = c.state.ChainReset(chain.Root{}, with)
	return c.reset, err
}

func (c *core) Order(_ context.Context, b chain.Block) (chain.Staged, error) {
	c.calls = append(c.calls, fmt.Sprintf("order %d", b.Height))
	if err := c.fail; err != nil {
		c.fail, c.leftover = nil, &b
		return chain.Staged{}, err
	}
	c.blocks = append(c.blocks, b)
	return chain.Staged{}, nil
}

func (c *core) Commit(_ context.Context, height uint64) (chain.State, error) {
	c.calls = append(c.calls, fmt.Sprintf("commit %d", height))
	return c.advance(height), nil
}

// CommitLater commits at once, as a commit may end before the caller goes on.
func (c *core) CommitLater(_ context.Context, height uint64) (chain.State, error) {
	c.calls = append(c.calls, fmt.Sprintf("begin %d", height))
	return c.advance(height), nil
}

// advance commits the block at height.
func (c *core) advance(height uint64) chain.State {
	c.leftover = nil
	c.state.Height = height
	if len(c.blocks) > 0 {
		c.state.Time = c.blocks[len(c.blocks)-1].Time
	}
	if height == c.decide {
		c.state.Reset = &chain.Reset{Height: height, TimeNs: c.state.Time.UnixNano(), Offset: 20}
	}
	return c.state
}

func (c *core) Take(ctx context.Context, maxTxs, _ int) ([][]byte, error) {
	select {
	case txs := <-c.offer:
		return txs, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// start serves the driver within the bubble of a test. stop ends it and returns what Serve
// returned.
func start(t *testing.T, s Solo, c *core) (stop func() error) {
	t.Helper()
	c.offer = make(chan [][]byte)
	service, err := s.Start(consensus.Core{Ordering: c, Pool: c,
		Genesis: &logv1.ChainStarted{ChainId: "test", InitialHeight: 1}})(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- service.Serve(ctx) }()
	synctest.Wait()

	return func() error { cancel(); return <-ended }
}

func TestABlockAsSoonAsThereIsWorkAndNeverAnEmptyOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &core{}
		stop := start(t, Solo{}, c)
		<-time.After(time.Hour)
		require.Empty(t, c.blocks)
		c.offer <- [][]byte{{1}}
		synctest.Wait()
		require.Equal(t, []string{"info", "init", "order 1", "begin 1"}, c.calls)
		require.ErrorIs(t, stop(), context.Canceled)
	})
}

func TestEmptyBlocksWhenAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &core{}
		stop := start(t, Solo{EmptyEvery: time.Second}, c)
		<-time.After(3500 * time.Millisecond)
		synctest.Wait()
		require.Len(t, c.blocks, 3)
		require.Empty(t, c.blocks[2].Txs)
		stop()
	})
}

func TestALeftoverIsCommittedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &core{state: chain.State{ChainID: "test", Height: 4}, leftover: &chain.Block{Height: 5}}
		stop := start(t, Solo{}, c)
		require.Equal(t, []string{"info", "init", "commit 5"}, c.calls)
		stop()
	})
}

// The next block is ordered before the driver waits for the commit of the one before.
func TestABlockIsOrderedWhileTheOneBeforeIsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &core{}
		stop := start(t, Solo{}, c)
		for i := range 3 {
			c.offer <- [][]byte{{byte(i)}}
		}
		synctest.Wait()
		require.Equal(t, []string{"info", "init", "order 1", "begin 1", "order 2", "commit 1", "begin 2", "order 3",
			"commit 2", "begin 3"}, c.calls)
		stop()
	})
}

// No block is ordered on one that has decided on a reset.
func TestABlockThatDecidesOnAResetIsCommittedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &core{decide: 2}
		stop := start(t, Solo{}, c)
		c.offer <- [][]byte{{1}}
		c.offer <- [][]byte{{2}}
		synctest.Wait()
		require.Equal(t, []string{"info", "init", "order 1", "begin 1", "order 2", "commit 1", "begin 2", "commit 2",
			"reset", "init", "order 22", "begin 22"}, c.calls)
		stop()
	})
}

// The death of the core does not end the driver: it asks for the committed state and continues from
// there.
func TestTheCoresDeathIsAskedAbout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &core{fail: &engines.DownError{Engine: "ordering", Incarnation: 3}}
		stop := start(t, Solo{}, c)
		c.offer <- [][]byte{{1}}
		<-time.After(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"info", "init", "order 1", "info", "init", "commit 1"}, c.calls)
		stop()
	})
}

func TestAnyOtherErrorIsTheDriversEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("not the next height")
		c := &core{fail: broken}
		stop := start(t, Solo{}, c)
		c.offer <- [][]byte{{1}}
		synctest.Wait()
		require.ErrorIs(t, stop(), broken)
	})
}

// After the decision on a reset, whatever of it is durable already, the driver makes the reset, and
// then the first block of the next epoch: at once, empty, and at the time of the decision.
func TestAResetIsMadeAtOnce(t *testing.T) {
	at := time.Unix(50, 0)
	decided := chain.State{ChainID: "test", Height: 4, Time: at, Params: chain.DefaultParams(),
		Reset: &chain.Reset{Height: 4, TimeNs: at.UnixNano(), Offset: 20}}
	ended, err := decided.ChainReset(chain.Root{}, chain.Renewal{})
	require.NoError(t, err)
	begun := decided
	begun.ChainID, begun.Period, begun.Height, begun.InitialHeight = "test-1", 1, 0, 24

	for what, c := range map[string]struct {
		core *core
		want []string
	}{
		"decided": {&core{state: decided}, []string{"info", "init", "reset", "init", "order 24", "begin 24"}},
		"ended":   {&core{state: decided, reset: ended}, []string{"info", "reset", "init", "order 24", "begin 24"}},
		"begun":   {&core{state: begun}, []string{"info", "init", "order 24", "begin 24"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			stop := start(t, Solo{}, c.core)
			<-time.After(time.Hour)
			require.Equal(t, c.want, c.core.calls, what)
			require.Len(t, c.core.blocks, 1, what)
			require.Empty(t, c.core.blocks[0].Txs, what)
			require.Equal(t, "test-1", c.core.blocks[0].ChainID, what)
			require.True(t, at.Equal(c.core.blocks[0].Time), what)

			c.core.offer <- [][]byte{{1}}
			synctest.Wait()
			require.Len(t, c.core.blocks, 2, what)
			require.True(t, c.core.blocks[1].Time.After(at), what)
			stop()
		})
	}
}

// A clock that is set back, or forward and back, never gives a block an earlier time than the
// previous block.
func TestBlockTimeNeverGoesBack(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	state := chain.State{ChainID: "test", Height: 7, Time: now}

	for _, clock := range []time.Duration{0, -time.Hour, time.Nanosecond, time.Hour} {
		b := propose(state, nil, now.Add(clock))
		require.True(t, b.Time.After(state.Time), "clock %v", clock)
		require.Equal(t, b.ContentHash(), b.Hash)
		require.EqualValues(t, 8, b.Height)
	}

	require.Equal(t, now.Add(time.Hour), propose(state, nil, now.Add(time.Hour)).Time)
}
