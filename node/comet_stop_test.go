package node

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/node/plan"
)

// signal sends a signal to a process.
func (r *cometRig) signal(pid int, s syscall.Signal) {
	if err := syscall.Kill(pid, s); err != nil {
		r.t.Errorf("%v of %d: %v", s, pid, err)
	}
}

// pausedFor stops a process for a while. It returns how long after the process went on the next
// block came.
func (r *cometRig) pausedFor(pid int, d time.Duration) time.Duration {
	r.t.Helper()
	r.signal(pid, syscall.SIGSTOP)
	<-time.After(d)
	before := r.now()
	began := time.Now()
	r.signal(pid, syscall.SIGCONT)
	r.await("a block after SIGCONT", func(f facts) bool { return f.commits > before.commits })
	return time.Since(began)
}

// Either process is stopped and goes on, as a debugger, a suspended machine or an overloaded
// machine would do to it. Nothing is lost. Nothing is restarted, unless CometBFT is stopped for
// longer than the watchdog's patience: then the watchdog replaces it. COPPICE_COMET_STOPS is how
// often each is stopped.
func TestStoppedProcessesGoOn(t *testing.T) {
	n, seed, long := campaign(t, "COPPICE_COMET_STOPS", 1)
	r := newCometRig(t, plan.Default, seed, false)
	ours, theirs := []time.Duration{50 * time.Millisecond}, []time.Duration{50 * time.Millisecond}

	if long {
		// the last two beyond the watchdog's patience
		ours = []time.Duration{50 * time.Millisecond, time.Second, 4 * time.Second, 12 * time.Second}
		theirs = []time.Duration{50 * time.Millisecond, 500 * time.Millisecond, 2500 * time.Millisecond}
	}

	for _, side := range []struct {
		name  string
		pid   func() int
		times []time.Duration
	}{
		{"the node", func() int { return r.node.cmd.Process.Pid }, ours},
		{"CometBFT", func() int { return r.now().comet() }, theirs},
	} {
		for _, d := range side.times {
			var next times
			for range n {
				r.progress(1 + r.rand.IntN(5))
				r.somewhen(10 * time.Millisecond)
				next = append(next, r.pausedFor(side.pid(), d))
				require.Len(t, r.progress(3).comets, 1, "CometBFT was restarted after %s was stopped for %v",
					side.name, d)
			}

			t.Logf("%s stopped for %v: next block after SIGCONT %v", side.name, d, next)
		}
	}

	if long { // and never goes on: the watchdog's restart does not count against the limit of the default profile
		var next times
		for range n {
			before := r.progress(1 + r.rand.IntN(5))
			began := time.Now()
			r.signal(before.comet(), syscall.SIGSTOP)
			next = append(next, r.nextBlock(before).next.Sub(began))
			require.Len(t, r.progress(3).comets, len(before.comets)+1)
		}

		t.Logf("CometBFT stopped for good: next block after SIGSTOP %v", next)
	}

	r.finish()
}

// A node that was stopped for longer than its watchdog's patience, without any request, finds that
// the height stood still all that time. It does not blame CometBFT for that. COPPICE_COMET_STOPS is
// how often the node is stopped.
func TestANodeThatWasStoppedDoesNotBlameCometBFT(t *testing.T) {
	n, seed, long := campaign(t, "COPPICE_COMET_STOPS", 0)
	if !long {
		t.Log("the short form is TestTimeInWhichTheNodeWasStoppedIsNotHeldAgainstCometBFT")
		return
	}

	r := newCometRig(t, plan.Default, seed, true)

	for range n {
		r.at(commitDelivered, func(moment) { // the relay holds what comes after it: the application is idle
			<-time.After(100 * time.Millisecond) // and has work
			r.signal(r.node.cmd.Process.Pid, syscall.SIGSTOP)
			<-time.After(6 * time.Second)
			r.signal(r.node.cmd.Process.Pid, syscall.SIGCONT)
		})
		require.Len(t, r.progress(20).comets, 1, "CometBFT was restarted")
	}

	r.finish()
}

// On an overloaded machine, the watchdog waits for a CometBFT that takes longer to start than a
// height may stand still: another start would take as long. (Found by a hundred SIGKILLs at a load
// average of 12: the watchdog ended starts that took 3 s.) COPPICE_COMET_STOPS is how often.
func TestASlowStartOfCometBFTIsWaitedFor(t *testing.T) {
	n, seed, long := campaign(t, "COPPICE_COMET_STOPS", 0)
	if !long {
		t.Log("the short form is TestAStartHasABoundOfItsOwn")
		return
	}

	r := newCometRig(t, plan.Default, seed, false)

	for range n {
		before := r.progress(1)
		r.kill(before.comet())
		r.at(childStarts, func(moment) { <-time.After(5 * time.Second) })
		require.Len(t, r.nextBlock(before).comets, len(before.comets)+1, "one new CometBFT")
	}

	r.finish()
}
