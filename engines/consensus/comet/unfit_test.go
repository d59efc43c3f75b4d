package comet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
	"github.com/stretchr/testify/require"
	"github.com/thejerf/suture/v4"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	"github.com/coppice-go/coppice/engines/consensus/comet/comettest"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
)

// serve runs the driver until it ends.
func serve(t *testing.T, home string, c *fakeCore) error {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	d := Driver{Home: home, Command: []string{self, child.Command},
		Intensity: supervisor.Intensity{Max: 3, Period: time.Minute}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	s, err := d.Start(c.core("test"))(ctx)
	require.NoError(t, err)

	return s.Serve(ctx)
}

// blocks returns a home with n blocks, and its core.
func blocks(t *testing.T, n int) (string, *fakeCore) {
	t.Helper()
	c, home := newFakeCore(), newHome(t, comethome.Options{})
	run := drive(t, home, c)

	for i := range n {
		c.submit(strings.Repeat("x", i+1) + "=1")
		c.await(t, func() bool { return len(c.pool) == 0 })
	}

	require.NoError(t, run.Stop(t.Context()))
	require.NoError(t, os.RemoveAll(comethome.SocketDir(home))) // a copy would have another mode

	return home, c
}

// CometBFT's data and ours were restored from different times, or CometBFT's data were cut. Without
// a check CometBFT ended at each start, with a stack or a line that names no cure. No restart mends
// such data, so they end the tree at once. COPPICE_SOAK=1 runs all cases.
func TestDataOfDifferentTimesEndTheTree(t *testing.T) {
	home, c := blocks(t, 3)
	cut := func(pattern string) func(*testing.T, string, *fakeCore) {
		return func(t *testing.T, home string, _ *fakeCore) {
			files, err := filepath.Glob(filepath.Join(home, "data", pattern))
			require.NoError(t, err)
			require.NotEmpty(t, files)
			for _, f := range files {
				require.NoError(t, os.Truncate(f, 10))
			}
		}
	}
	for i, k := range []struct {
		name   string
		damage func(t *testing.T, home string, c *fakeCore)
		says   string
	}{
		{"ours is newer", func(_ *testing.T, _ string, c *fakeCore) { c.state.Height += 5 }, "is higher than core"},
		{"ours is older than what was pruned", func(t *testing.T, home string, c *fakeCore) {
			conf, err := comethome.LoadConfig(home)
			require.NoError(t, err)
			require.NoError(t, comettest.Stores(conf, func(s sm.Store, b *store.BlockStore) {
				state, err := s.Load()
				require.NoError(t, err)
				_, _, err = b.PruneBlocks(b.Height(), state)
				require.NoError(t, err)
			}))
			c.state.Height = 1
		}, "too far below block store base"},
		{"state.db is cut", cut("state.db/[0-9]*"), "panic: StoreBlockHeight"},
		{"blockstore.db is cut", cut("blockstore.db/[0-9]*"), "panic: state"},
		{"a manifest is cut", cut("state.db/MANIFEST*"), "manifest corrupted"},
		{"state.db is gone", func(t *testing.T, home string, _ *fakeCore) {
			require.NoError(t, os.RemoveAll(filepath.Join(home, "data", "state.db")))
		}, "state.db, and the state is at height"},
		{"state.db has no CURRENT", func(t *testing.T, home string, _ *fakeCore) {
			require.NoError(t, os.Remove(filepath.Join(home, "data", "state.db", "CURRENT")))
		}, "state.db: its file CURRENT"},
		{"our app hash is another", func(_ *testing.T, _ string, c *fakeCore) {
			c.state.AppHash = make([]byte, 32)
		}, "panic: state.AppHash does not match"},
	} {
		if i > 2 && os.Getenv("COPPICE_SOAK") == "" {
			break
		}
		t.Run(k.name, func(t *testing.T) {
			broken := filepath.Join(t.TempDir(), "comet")
			require.NoError(t, os.CopyFS(broken, os.DirFS(home)))
			own := newFakeCore()
			own.state = c.state
			k.damage(t, broken, own)
			err := serve(t, broken, own)
			require.Equal(t, consensus.Damage, comethome.Class(err))
			require.ErrorIs(t, err, consensus.ErrFinal)
			require.ErrorContains(t, err, k.says)
			require.ErrorContains(t, err, "from one backup")
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

// ended returns the error of a process that ended by itself.
func ended(status int, last ...string) error {
	return fmt.Errorf("wrapped: %w", &process.ExitError{Name: "cometbft", Status: status, LastLines: last})
}

// A failed start is tried again, later each time. Too many failures in a row end the tree, with the
// reason. (Before, ten failures in twelve seconds restarted the driver, and all began anew, without
// end.)
func TestStartsThatFailInARowEndTheTree(t *testing.T) {
	s := &starts{}
	taken := ended(1, "before", "coppice: listen tcp 127.0.0.1:26657: bind: address already in use")
	var all time.Duration

	for range mostFailed - 1 {
		s.begin()
		require.NotErrorIs(t, s.judge(taken), consensus.ErrFinal)
		all += s.pause()
	}

	require.Equal(t, 90*time.Second, all, "in addition to the time of the starts themselves")
	s.begin()
	err := s.judge(taken)
	require.ErrorIs(t, err, consensus.ErrFinal)
	require.ErrorIs(t, err, suture.ErrTerminateSupervisorTree)
	require.ErrorContains(t, err, "CometBFT ended 12 times in a row before it was up, at last with: listen tcp "+
		"127.0.0.1:26657: bind: address already in use")
	require.NotErrorIs(t, err, comethome.ErrHome)

	s.came() // a process that came up
	require.Zero(t, s.pause())
	for range 3 * mostFailed { // ends of a running CometBFT: the limits of the tree handle them
		require.NotErrorIs(t, s.judge(taken), consensus.ErrFinal)
	}

	s.begin()

	for range 3 * mostFailed { // kills and stops say nothing about the next start
		require.NotErrorIs(t, s.judge(&process.ExitError{Status: -1, Signal: 9}), consensus.ErrFinal)
		require.NotErrorIs(t, s.judge(&process.ExitError{Status: 1, Asked: true}), consensus.ErrFinal)
		require.NotErrorIs(t, s.judge(ended(0)), consensus.ErrFinal, "as when its connection to us has ended")
		require.NotErrorIs(t, s.judge(context.Canceled), consensus.ErrFinal)
	}
}

// The limit of the driver's supervisor must not be reached first. The supervisor would then restart
// the whole driver, without a reason.
func TestThePausesOfFailedStartsStayBelowTheLimit(t *testing.T) {
	s, at := &starts{}, []time.Duration{0}
	for range mostFailed - 2 {
		_ = s.judge(ended(1))
		at = append(at, at[len(at)-1]+s.pause())
	}

	for i := range at {
		n := 0
		for _, other := range at[i:] {
			if other-at[i] < time.Minute {
				n++
			}
		}
		require.LessOrEqual(t, n, 10, "restarts in 60 s, beginning with number %d", i)
	}
}

func TestWhatAProcessEndedOfIsTold(t *testing.T) {
	s := &starts{}
	s.begin()
	require.ErrorIs(t, s.judge(ended(child.StatusConfig, "coppice: "+comethome.ErrGenesis.Error()+": another")),
		comethome.ErrGenesis)
	require.ErrorIs(t, s.judge(ended(child.StatusConfig, comethome.ErrHome.Error()+": a file")), comethome.ErrHome)
	require.ErrorIs(t, s.judge(ended(child.StatusDamage, "coppice: "+comethome.ErrSigning.Error()+": gone")),
		comethome.ErrSigning)
	require.ErrorIs(t, s.judge(ended(child.StatusDamage)), comethome.ErrChainDamage)

	core, logs := observer.New(zap.ErrorLevel)
	tr := &tree{Driver: Driver{Log: zap.New(core), health: newHealth(nil)}, starts: s, resets: idleResets()}

	for _, l := range []string{"I[x] all is well", "E[x] a peer", "E[x] CONSENSUS FAILURE!!! err=...",
		"panic: out of luck", "goroutine 1 [running]:"} {
		tr.stderr([]byte(l))
	}

	require.Equal(t, 2, logs.Len(), "the reason for its end is logged as an error: %v", logs.All())
	err := s.judge(ended(2, "goroutine 1 [running]:", "main.main()"))
	require.ErrorContains(t, err, "panic: out of luck", "the beginning of a panic, not the end of its stack")
	s.begin()
	tr.stdout([]byte("LoadState: Data has been corrupted or its spec has changed:"))
	require.ErrorIs(t, s.judge(ended(1)), comethome.ErrChainDamage,
		"where CometBFT ends the process it says so on stdout, and by status 1")
	tr.stdout([]byte(child.UpLine))
	require.True(t, s.up)
}
