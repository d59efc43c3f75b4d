package readiness

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
)

// rig is a Tracker whose sources a test sets.
type rig struct {
	*Tracker
	down, core string
	mu         sync.Mutex // of driver: Watch reads it in a goroutine of its own
	driver     consensus.Condition
	chain      chain.State
}

func newRig() *rig {
	r := &rig{driver: consensus.Condition{State: consensus.Ready}}
	r.chain = chain.State{ChainID: "test", Period: 1, InitialHeight: 1, Height: 7, Time: time.Now(),
		Params: chain.DefaultParams()}
	r.Tracker = New(Sources{
		Down: func() string { return r.down }, CoreDown: func() string { return r.core },
		Driver: func() (consensus.Condition, bool) {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.driver, true
		},
		Chain: func(context.Context) (chain.State, error) { return r.chain, nil },
	})
	r.Saw(r.chain)
	return r
}

// What keeps the node from working decides: first its own parts, then what the driver says, which
// knows more than that its process does not run.
func TestTheStateIsOfWhatKeepsTheNode(t *testing.T) {
	r := newRig()
	r.core = "logger is starting"
	require.Equal(t, "starting: logger is starting", r.Condition().String())
	r.core = ""
	require.True(t, r.Condition().Able())

	r.core = "logger is restarting"
	require.Equal(t, "down: logger is restarting", r.Condition().String())
	r.core, r.down = "", "consensus is restarting"
	require.Equal(t, consensus.Down, r.Condition().State)
	r.driver.Is(consensus.NoQuorum, "1 of 4")
	require.Equal(t, "no_quorum: 1 of 4", r.Condition().String())

	r.Stop()
	require.Equal(t, consensus.Stopping, r.Condition().State)
}

func TestAFullDiskIsNotReady(t *testing.T) {
	r := newRig()
	free := uint64(1 << 20)
	r.Disk = Disk{&disk{path: "home", stat: func(string) (uint64, uint64, error) { return free, 1 << 40, nil }}}
	require.Equal(t, consensus.DiskFull, r.Condition().State)
	r.core = "logger is restarting"
	require.Equal(t, consensus.DiskFull, r.Condition().State, "the cause, not what comes of it")
	r.core = ""
	free = 1 << 30
	r.Disk.at = time.Time{}
	require.True(t, r.Condition().Able())
	r.Disk.stat = func(string) (uint64, uint64, error) { return 0, 0, errors.ErrUnsupported }
	r.Disk.at = time.Time{}
	require.True(t, r.Condition().Able(), "a disk that cannot be asked is not full")
}

// R11: a disk has too little room by an absolute bound, and if it is small by a part of the whole.
func TestADiskHasTooLittleRoom(t *testing.T) {
	for _, row := range []struct {
		free, size uint64
		below      bool
	}{{1 << 30, 1 << 40, false}, {1<<30 - 1, 1 << 40, true}, {1 << 20, 20 << 20, false}, {1<<20 - 1, 20 << 20, true}} {
		d := Disk{&disk{stat: func(string) (uint64, uint64, error) { return row.free, row.size, nil }}}
		require.Equal(t, row.below, d.Below(1<<30, time.Now()), row)
	}
}

// A clock behind is a warning, because block time decides. A clock that is a window ahead makes the
// node refuse what others take.
func TestClocks(t *testing.T) {
	for offset, want := range map[time.Duration]struct{ state, warns consensus.Readiness }{
		time.Second:       {consensus.Ready, ""},
		time.Minute:       {consensus.Ready, consensus.ClockAhead},
		time.Hour:         {consensus.ClockAhead, ""},
		-10 * time.Second: {consensus.Ready, consensus.ClockBehind},
		-time.Hour:        {consensus.Ready, consensus.ClockBehind},
	} {
		r := newRig()
		r.driver.ClockOffset = offset
		c := r.Condition()
		require.Equal(t, want.state, c.State, offset)
		if want.warns == "" {
			require.Empty(t, c.Warnings, offset)
			continue
		}
		require.Len(t, c.Warnings, 1, offset)
		require.Equal(t, want.warns, c.Warnings[0].State, offset)
	}

	r := newRig()
	r.chain.Time, r.chain.Height = time.Now().Add(2*time.Hour), 8
	r.Saw(r.chain)
	c := r.Condition()
	require.True(t, c.Able())
	require.Contains(t, c.Warnings[0].Reason, "2h0m0s behind the time of the last block")
}

// Another state is reported at once; a number in its reason, now and then.
func TestWatchReportsWhatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		var said []string
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.Watch(ctx, func(c consensus.Condition) { said = append(said, c.String()) })
		}()
		next := func(d time.Duration, reason string) {
			<-time.After(d)
			synctest.Wait()
			r.mu.Lock()
			r.driver.Is(consensus.CatchingUp, "%s", reason)
			r.mu.Unlock()
		}
		next(time.Second, "9 blocks behind")
		next(time.Second, "8 blocks behind")
		next(againEvery, "7 blocks behind")
		cancel()
		<-done
		require.Equal(t, []string{"ready", "catching_up: 9 blocks behind", "catching_up: 8 blocks behind"}, said)
	})
}

// What somebody is told when they ask is reported at the same time, and not at the next look: a
// node that is ready for a tenth of a second says so.
func TestWatchReportsAtOnceWhatAnotherLookHasFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		said := make(chan consensus.Readiness, 3)
		go r.Watch(ctx, func(c consensus.Condition) { said <- c.State })
		require.Equal(t, consensus.Ready, <-said)

		begun := time.Now()
		synctest.Wait()
		r.mu.Lock()
		r.driver.Is(consensus.NoQuorum, "1 of 4")
		r.mu.Unlock()
		require.Equal(t, consensus.NoQuorum, r.Condition().State)
		require.Equal(t, consensus.NoQuorum, <-said)
		require.Equal(t, begun, time.Now())
	})
}
