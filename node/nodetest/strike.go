package nodetest

import (
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// ErrKilled is the exit error of a child that this package killed.
var ErrKilled = errors.New("killed by the test")

// Kill ends the child at a path of the tree, such as coppice/node/transactions/ordering,
// abnormally. It returns at once; use Cut to wait.
func (n *Node) Kill(path string) {
	n.t.Helper()
	if err := n.Supervisor().Kill(path, ErrKilled); err != nil {
		n.t.Fatalf("nodetest: kill %s: %v", path, err)
	}
}

// Cut kills the child at a path and waits until its successor and the whole tree are running.
func (n *Node) Cut(path string) {
	n.t.Helper()
	before, ok := n.Supervisor().Tree().Find(path)
	if !ok {
		n.t.Fatalf("nodetest: nothing is at %s in\n%v", path, n.Supervisor().Tree())
	}

	mark := n.Recorder().Mark()
	n.Kill(path)
	suptest.After(n.t, n.Recorder(), mark, 1, func(e supervisor.ChildStarted) bool {
		return e.Subject() == path && e.Incarnation > before.Incarnation
	})
	n.AwaitSettled()
}

// AwaitSettled waits until the whole tree is running, and returns it.
func (n *Node) AwaitSettled() supervisor.Tree {
	n.t.Helper()
	return n.Recorder().Settle(n.t, n.Supervisor())
}

// awaitEvery is the time between two checks of Await.
const awaitEvery = 2 * time.Millisecond

// Await waits until ok returns true. It calls ok at once and then every few milliseconds. If ok
// never returns true, the test fails with what.
func (n *Node) Await(what string, ok func() bool) {
	n.t.Helper()
	limit := time.NewTimer(Timeout)
	defer limit.Stop()

	again := time.NewTicker(awaitEvery)
	defer again.Stop()

	for !ok() {
		select {
		case <-again.C:
		case <-limit.C:
			n.t.Fatalf("nodetest: not within %v: %s\n%v", Timeout, what, n.Supervisor().Tree())
		}
	}
}

// AwaitEnd waits until the node ends by itself and returns the error that the process would report:
// exit.Code(err) is its exit code. Begin starts the node again.
func (n *Node) AwaitEnd() error {
	n.t.Helper()
	l := n.now()
	select {
	case <-l.ended:
	case <-time.After(Timeout):
		n.t.Fatalf("nodetest: the node did not end within %v:\n%v", Timeout, l.node.Supervisor().Tree())
	}

	l.seen = true

	return l.err
}

// Stop stops the node in order, as SIGTERM does. Begin starts it again.
func (n *Node) Stop() {
	n.t.Helper()
	n.now().stop()
	if err := n.AwaitEnd(); err != nil {
		n.t.Fatalf("nodetest: stop: %v", err)
	}
}

// Begin starts the node again after Stop or AwaitEnd, on the same disk, and returns when it
// answers.
func (n *Node) Begin() {
	n.t.Helper()
	select {
	case <-n.now().ended:
	default:
		n.t.Fatalf("nodetest: the node runs already")
	}
	n.begin()
}

// Restart calls Stop and then Begin.
func (n *Node) Restart() {
	n.t.Helper()
	n.Stop()
	n.Begin()
}

// Crash simulates a power failure: data that was not synced to the disk is lost (but see
// KeepUnsynced), nothing is stopped in order, and the node starts again. Crash returns when the new
// life answers.
func (n *Node) Crash() {
	n.t.Helper()
	if n.mem == nil {
		n.t.Fatalf("nodetest: the operating system's disk cannot lose power; leave OnDisk out")
	}

	after := n.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: n.o.keep, RNG: n.rng})
	l := n.now()
	l.stop()         // the old life ends on a disk that is not used again
	_ = n.AwaitEnd() // however it ended
	n.mem = after
	n.begin()
}

// Verify checks the stopped home of a node that runs OnDisk, as `coppice verify` does: by scan and
// by replay.
func (n *Node) Verify(o offline.VerifyOptions) offline.Verified {
	n.t.Helper()
	if n.mem != nil {
		n.t.Fatalf("nodetest: only a node that runs OnDisk has a home to verify")
	}
	v, err := offline.Verify(n.t.Context(), n.home, o)
	if err != nil {
		n.t.Fatalf("nodetest: verify: %v", err)
	}

	return v
}
