package comet

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/ladder"
	"github.com/coppice-go/coppice/engines/consensus/comet/manager"
	"github.com/coppice-go/coppice/supervisor"
)

// stander is a peer that says where it stands; one without an agent is dead.
type stander struct {
	consensus.Peer
	consensus.PeerStanding
}

func (s stander) Standing(ctx context.Context) (consensus.PeerStanding, error) {
	if s.Agent == "" {
		<-ctx.Done() // it takes the connection and does not answer
		return consensus.PeerStanding{}, errors.New("dead")
	}
	return s.PeerStanding, nil
}

// at returns a peer of an agent.
func at(epoch, height uint64, agent string) stander {
	return stander{PeerStanding: consensus.PeerStanding{Epoch: epoch, Height: height, Agent: agent}}
}

// climbs notes the rungs that a watchdog climbs.
type climbs struct {
	mu  sync.Mutex
	all []ladder.Rung
}

func (c *climbs) get() []ladder.Rung {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all)
}

// stalled is watchOver with peers.
func stalled(t *testing.T, peers ...consensus.Peer) (*watched, *climbs) {
	c := new(climbs)
	return watchOver(t, func(w *watched) {
		w.peers, w.agents = peers, 4
		w.climb = func(ctx context.Context, r ladder.Rung) error {
			c.mu.Lock()
			c.all = append(c.all, r)
			c.mu.Unlock()
			return supervisor.Recycle(ctx, w.sup, childProcess)
		}
	}), c
}

// The ladder restarts CometBFT, then asks the peers, rebuilds its data if f+1 of them are ahead,
// with pauses that grow, and says after five attempts that they have not helped. A dead peer blocks
// nothing. Items 25 and 53.
func TestTheStallLadderIsClimbedStepByStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := stalled(t, at(0, 9, "a"), at(0, 8, "b"), stander{})
		after(5 * time.Second)
		require.Equal(t, []ladder.Rung{ladder.Gentle}, c.get())
		after(20 * time.Second)
		require.Equal(t, []ladder.Rung{ladder.Gentle, ladder.Rebuild}, c.get())
		after(8 * time.Minute)
		require.Equal(t, []ladder.Rung{ladder.Gentle, ladder.Rebuild, ladder.Rebuild, ladder.Rebuild,
			ladder.Rebuild}, c.get()[:5])
		require.Equal(t, manager.Abandoned, w.resets.Status(0).State)
		require.NotContains(t, c.get()[5:], ladder.Rebuild, "it goes on with restarts only")
		require.Zero(t, w.app.height.Load(), "no step moves the height")
	})
}

// If nobody is ahead, or the peers are in a later epoch, no restart helps: it is told, once.
func TestTheStallLadderWaitsWhereNoStepHelps(t *testing.T) {
	for text, epoch := range map[string]uint64{"no quorum: nobody is ahead": 0,
		"are in epoch 1, and this node is in 0": 1} {
		synctest.Test(t, func(t *testing.T) {
			w, c := stalled(t, at(epoch, 0, "a"), at(epoch, 0, "b"), stander{})
			after(5 * time.Minute)
			require.Equal(t, []ladder.Rung{ladder.Gentle}, c.get())
			told := 0
			for _, e := range w.resets.Status(0).Events {
				if e.State == manager.Stalled && strings.Contains(e.Text, text) {
					told++
				}
			}
			require.Equal(t, 1, told)
		})
	}
}

// What was tried at a height is known to the watchdog's next life, and forgotten at the next one.
func TestTheLadderRemembersItsAttempts(t *testing.T) {
	var a attempts
	require.Zero(t, a.at(7))
	a.set(7, 3)
	require.Equal(t, 3, a.at(7))
	require.Zero(t, a.at(8))
}

// The machine climbs a rung while the watchdog goes on: neither waits for the other.
func TestTheWatchdogDoesNotWaitForTheMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := idleResets()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.climb(ctx, ladder.Gentle) }()
		synctest.Wait() // nobody runs the machine
		require.True(t, r.climbing.Load())
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		require.False(t, r.climbing.Load())

		ctx, cancel = context.WithCancel(t.Context())
		go func() { ended <- r.machine.Serve(ctx) }()
		require.NoError(t, r.climb(ctx, ladder.Rebuild))
		synctest.Wait()
		require.False(t, r.climbing.Load())
		require.Contains(t, r.machine.Status(0).Events[0].Text, "the consensus is starting")
		cancel()
		<-ended
	})
}
