package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/node/plan"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

const (
	enginesPath   = "coppice/node/engines"
	consensusPath = enginesPath + "/consensus"
)

// tree returns the node's tree as it is now. The admin child answers whatever the rest does.
func (r *cometRig) tree() *apiv1.Child {
	r.t.Helper()
	ctx, cancel := r.bounded()
	defer cancel()
	t, err := r.cl.Tree(ctx)
	require.NoError(r.t, err)
	return t.Root
}

// below returns the running places of the tree below a place.
func below(c *apiv1.Child, path string) (found []*apiv1.Child) {
	if strings.HasPrefix(c.Path, path+"/") && c.Live.GetState() == apiv1.ChildState_CHILD_STATE_RUNNING {
		found = append(found, c)
	}
	for _, child := range c.Children {
		found = append(found, below(child, path)...)
	}
	return found
}

func childAt(c *apiv1.Child, path string) *apiv1.Child {
	if c.Path == path {
		return c
	}

	for _, child := range c.Children {
		if found := childAt(child, path); found != nil {
			return found
		}
	}

	return nil
}

// whole reports whether every specified child runs. The children of dynamic supervisors do not
// count, because they come and go.
func whole(c *apiv1.Child) bool {
	if c.Live.GetState() != apiv1.ChildState_CHILD_STATE_RUNNING {
		return false
	}
	return c.Spec.GetStrategy() == apiv1.Strategy_STRATEGY_DYNAMIC ||
		!slices.ContainsFunc(c.Children, func(c *apiv1.Child) bool {
			return !whole(c)
		})
}

// awaitTree waits until the tree satisfies f.
func (r *cometRig) awaitTree(what string, f func(root *apiv1.Child) bool) {
	r.t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()

	for late := time.Now().Add(2 * cometWait); ; <-look.C {
		if f(r.tree()) {
			return
		}
		if time.Now().After(late) {
			r.t.Fatalf("the tree: %s: not within %v: %v", what, 2*cometWait, r.tree())
		}
	}
}

// strike makes one kill. It reports whether it hit: a transient child may have ended before.
func (r *cometRig) strike(path string, how apiv1.How) bool {
	r.t.Helper()
	ctx, cancel := r.bounded()
	defer cancel()

	var release time.Duration

	if how == apiv1.How_HOW_HANG {
		// within its shutdown time: else it is an orphan, and the node's affair
		release = time.Duration(50+r.rand.IntN(850)) * time.Millisecond
	}

	_, err := r.cl.Kill(ctx, path, how, release)
	if err != nil && slices.Contains([]connect.Code{connect.CodeNotFound, connect.CodeFailedPrecondition,
		connect.CodeInvalidArgument}, connect.CodeOf(err)) {
		return false
	}

	require.NoError(r.t, err, path)

	return true
}

// wayToDie returns a random way to kill a child.
func (r *cometRig) wayToDie(c *apiv1.Child) apiv1.How {
	if c.Type == apiv1.ChildType_CHILD_TYPE_SUPERVISOR {
		return apiv1.How_HOW_STOP
	}
	ways := []apiv1.How{apiv1.How_HOW_ERROR, apiv1.How_HOW_PANIC, apiv1.How_HOW_GOEXIT, apiv1.How_HOW_HANG}
	return ways[r.rand.IntN(len(ways))]
}

// Everything below transactions, and below engines except consensus, is killed under load in random
// ways, within the limits of the default profile. CometBFT's process does not notice.
// COPPICE_COMET_CORE_KILLS sets the number of kills.
func TestKillsOfTheCoreLeaveCometBFTAlone(t *testing.T) {
	n, seed, _ := campaign(t, "COPPICE_COMET_CORE_KILLS", 3)
	r := newCometRig(t, plan.Default, seed, false)
	r.awaitTree("it is whole", whole)
	struck, vain := map[string]int{}, 0

	for done := 0; done < n; {
		// As many blows at once as the limits allow, at random; the blows after the first fall into
		// the recovery from it.
		var blows []*apiv1.Child
		r.awaitTree("its limits allow another kill", func(root *apiv1.Child) bool {
			core, engines := childAt(root, corePath), childAt(root, enginesPath)
			left := map[bool]int{
				true:  int(core.Spec.GetMaxRestarts()) - int(core.Live.GetInWindow()),
				false: int(engines.Spec.GetMaxRestarts()) - int(engines.Live.GetInWindow()),
			}

			all := slices.DeleteFunc(append(below(root, corePath), below(root, enginesPath)...),
				func(c *apiv1.Child) bool {
					return strings.HasPrefix(c.Path+"/", consensusPath+"/")
				})

			if !whole(root) || len(all) == 0 {
				return false
			}

			blows = nil

			for range min(1+r.rand.IntN(3), n-done) {
				c := all[r.rand.IntN(len(all))]
				if inCore := strings.HasPrefix(c.Path, corePath+"/"); left[inCore] > 0 {
					left[inCore]--
					blows = append(blows, c)
				}
			}

			return len(blows) > 0
		})

		for _, c := range blows {
			how := r.wayToDie(c)
			if !r.strike(c.Path, how) {
				vain++
				continue
			}
			done++
			struck[how.String()]++
			struck[kindOf(c.Path)]++
		}

		r.awaitTree("it has grown back", whole)
		require.Len(t, r.progress(2).comets, 1, "CometBFT was restarted after %v", blows)
	}

	require.Len(t, r.progress(5).comets, 1)
	ctx, cancel := r.bounded()
	defer cancel()

	s, err := r.cl.HostStatus(ctx)
	require.NoError(t, err)
	require.EqualValues(t, r.node.cmd.Process.Pid, s.Pid)
	t.Logf("%d kills, %d more in vain: %v; CometBFT's process was one throughout", n, vain, struck)
	r.finish()
}

// kindOf returns a path of the tree with "*" in place of the name of a worker.
func kindOf(path string) string {
	if strings.HasPrefix(path, corePath+"/mempool/workers/") {
		return corePath + "/mempool/workers/*"
	}
	return path
}

// blockWithin is how soon the next block must come after a kill that restarts the node's engines.
const blockWithin = 5 * time.Second

// A kill of router, logger, transactions or node restarts the engines. Then there is exactly one
// new CometBFT, with exactly one handshake. COPPICE_COMET_NODE_RESTARTS is how often each is
// killed.
func TestKillsThatRestartTheNodeMakeOneCometBFT(t *testing.T) {
	n, seed, long := campaign(t, "COPPICE_COMET_NODE_RESTARTS", 1)
	r := newCometRig(t, plan.Default, seed, true)
	var paths []string
	for range n {
		paths = append(paths, "coppice/node/router", "coppice/node/logger", corePath, "coppice/node")
	}

	if !long {
		paths = []string{"coppice/node/router", "coppice/node"}
	}

	r.rand.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
	next := map[string]times{}

	for _, path := range paths {
		r.awaitTree("its limits allow another kill", func(root *apiv1.Child) bool {
			for _, s := range []string{"coppice/node", "coppice"} {
				if c := childAt(root, s); c.Live.GetInWindow() >= c.Spec.GetMaxRestarts() {
					return false
				}
			}
			return whole(root)
		})
		how := r.wayToDie(childAt(r.tree(), path))
		before := r.progress(1 + r.rand.IntN(5))
		began := time.Now()
		require.True(t, r.strike(path, how), path)
		took := r.nextBlock(before).next.Sub(began)
		next[path] = append(next[path], took)
		r.awaitTree("it has grown back", whole)
		now := r.progress(3)
		require.Len(t, now.comets, len(before.comets)+1, "%s by %v: one new CometBFT", path, how)
		require.Equal(t, before.infos+1, now.infos, "%s by %v: one handshake", path, how)
		if long {
			require.Less(t, took, blockWithin, "%s by %v", path, how)
		}
	}

	for path, took := range next {
		t.Logf("kills of %s: next block %v", path, took)
	}

	r.finish()
}
