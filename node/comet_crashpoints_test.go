package node

import (
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/node/plan"
)

// crashPoints is the number of places at which FAIL_TEST_INDEX makes CometBFT exit between the
// first vote of a block and that of the next: after each write to its write-ahead log, its stores
// and its state.
const crashPoints = 12

// CometBFT exits at each of its own crash points, both with the node alive and with the node killed
// at that instant. It recovers each time, with one handshake. COPPICE_COMET_CRASHPOINTS is how
// often each case is run.
func TestCrashPointsOfCometBFT(t *testing.T) {
	n, seed, long := campaign(t, "COPPICE_COMET_CRASHPOINTS", 1)
	type blow struct {
		index int
		both  bool
	}
	var blows []blow

	for range n {
		for i := range crashPoints {
			blows = append(blows, blow{i, false}, blow{i, true})
		}
	}

	if !long {
		blows = []blow{{5, false}, {8, true}}
	}

	r := newCometRig(t, plan.Chaos, seed, true)
	r.rand.Shuffle(len(blows), func(i, j int) { blows[i], blows[j] = blows[j], blows[i] })
	next := map[bool]times{}
	fired := map[blow]int{}

	for _, b := range blows {
		r.progress(1 + r.rand.IntN(3))
		r.mu.Lock()
		r.answer = strconv.Itoa(b.index) // to the next CometBFT, and to that alone
		r.mu.Unlock()

		var before facts
		exited := func() {
			r.at(failPoint, func(moment) {
				before = r.now()
				if b.both {
					r.crash()
				}
			})
		}
		r.kill(r.now().comet())
		var took time.Duration

		if b.both {
			took = r.restart(exited)
		} else {
			exited()
			began := time.Now()
			after := r.nextBlock(before)
			took = after.next.Sub(began)
			now := r.progress(1)
			require.Len(t, now.comets, len(before.comets)+1, "crash point %d: one new CometBFT", b.index)
			require.Equal(t, before.infos+1, now.infos, "crash point %d: one handshake", b.index)
			require.ErrorIs(t, syscall.Kill(before.comet(), 0), syscall.ESRCH, "the armed one has exited")
		}

		require.EqualValues(t, b.index, before.failed[len(before.failed)-1])
		fired[b]++
		next[b.both] = append(next[b.both], took)
	}

	require.Len(t, r.now().failed, len(blows), "each fired, once")
	t.Logf("%d exits at crash points, %d kinds; next block with the node alive %v, with the node killed too %v",
		len(blows), len(fired), next[false], next[true])
	r.finish()
}
