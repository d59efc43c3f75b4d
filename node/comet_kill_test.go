package node

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/node/plan"
)

// CometBFT's process gets SIGKILL under load, anywhere in the work of a block. For each kill there
// is one new process, the chain goes on, and nothing is lost or applied twice. COPPICE_COMET_KILLS
// sets the number of kills, and COPPICE_COMET_SEED the seed.
func TestSIGKILLOfCometBFT(t *testing.T) {
	n, seed, _ := campaign(t, "COPPICE_COMET_KILLS", 2)
	r := newCometRig(t, plan.Chaos, seed, false)
	var next times

	for range n {
		r.progress(1 + r.rand.IntN(10))
		r.somewhen(20 * time.Millisecond)
		before := r.now()
		began := time.Now()
		r.kill(before.comet())
		after := r.nextBlock(before)
		next = append(next, after.next.Sub(began))
		require.Len(t, after.comets, len(before.comets)+1, "one new process")
		require.Greater(t, after.height, before.height)
	}

	t.Logf("%d SIGKILLs of CometBFT: next block %v", n, next)
	r.finish()
}

// The node's process gets SIGKILL under load, at any time. It comes back with one CometBFT, whose
// first handshake succeeds. COPPICE_COMET_NODE_KILLS sets the number of kills.
func TestSIGKILLOfTheNodeWithCometBFT(t *testing.T) {
	n, seed, _ := campaign(t, "COPPICE_COMET_NODE_KILLS", 1)
	r := newCometRig(t, plan.Default, seed, true)
	var next times

	for range n {
		r.progress(1 + r.rand.IntN(10))
		r.somewhen(20 * time.Millisecond)
		next = append(next, r.restart(r.crash))
	}

	t.Logf("%d SIGKILLs of the node: next block %v after the start", n, next)
	r.finish()
}

// restart kills the node's process and starts it again. It returns how long the next block took
// from the start. Afterwards there is exactly one CometBFT, whose first and only handshake
// succeeded.
func (r *cometRig) restart(strike func()) time.Duration {
	r.t.Helper()
	strike()
	<-r.node.done
	began := time.Now()
	before := r.now()
	r.start()
	after := r.nextBlock(before)
	now := r.progress(1)
	require.Len(r.t, now.comets, len(before.comets)+1, "one new CometBFT")
	require.Equal(r.t, before.infos+1, now.infos, "one handshake")
	require.GreaterOrEqual(r.t, after.height, before.height)

	return after.next.Sub(began)
}

// The node's process, or CometBFT's, gets SIGKILL at every step of a commit: between any two facts
// that become durable or known to the other process. COPPICE_COMET_STEPS is how often each process
// is killed at each step; the short form kills at a few steps.
func TestSIGKILLAtEachStepOfACommit(t *testing.T) {
	n, seed, long := campaign(t, "COPPICE_COMET_STEPS", 1)
	type blow struct {
		at   step
		node bool
	}
	var blows []blow

	for range n {
		for _, s := range commitSteps {
			blows = append(blows, blow{s, true}, blow{s, false})
		}
	}

	if !long {
		blows = []blow{{sealed, true}, {commitDurable, true}, {executed, false}, {commitAnswered, false}}
	}

	r := newCometRig(t, plan.Chaos, seed, true)
	r.rand.Shuffle(len(blows), func(i, j int) { blows[i], blows[j] = blows[j], blows[i] })
	next := map[bool]times{}
	struck := map[step]int{}

	for _, b := range blows {
		r.progress(1 + r.rand.IntN(4))
		var height int64

		if b.node {
			took := r.restart(func() {
				r.at(b.at, func(m moment) {
					height = m.Height
					r.crash()
				})
			})
			next[true] = append(next[true], took)
		} else {
			var before facts
			var began time.Time
			r.at(b.at, func(m moment) {
				height, before, began = m.Height, r.now(), time.Now()
				r.kill(before.comet())
			})
			after := r.nextBlock(before)
			next[false] = append(next[false], after.next.Sub(began))
			now := r.progress(1)
			require.Len(t, now.comets, len(before.comets)+1, "%s: one new CometBFT", b.at)
			require.Equal(t, before.infos+1, now.infos, "%s: one handshake", b.at)
		}

		struck[b.at]++
		require.GreaterOrEqual(t, r.now().height, height, "%s: the block at which it was struck", b.at)
	}

	t.Logf("%d blows at %d steps; next block after the node's death and start %v, after CometBFT's %v", len(blows),
		len(struck), next[true], next[false])
	r.finish()
}
