package chaos

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// target is a child of a tree and a way to kill it.
type target struct {
	path string
	how  apiv1.How
}

func (t target) String() string {
	return t.path + " by " + rig.HowWord(t.how)
}

// targets returns every kill that is possible in a tree, except for the end of the whole process,
// which is KillNode.
func targets(root *apiv1.Child) []target {
	var out []target
	rig.EachKill(root, func(_ *apiv1.Child, path string, ways ...apiv1.How) {
		for _, how := range ways {
			out = append(out, target{path, how})
		}
	})

	return out
}

// hangs is how long a hanging child ignores its supervisor. It is less than the second for which
// the supervisor waits, with raised limits, and less than the half second that the child admin
// gives its requests to end.
const hangs = 300 * time.Millisecond

// blowTime bounds a blow, because a node may be down or hang.
const blowTime = 2 * time.Second

// fall executes one strike. For a blow at a child of a tree, it returns the child's path and the
// way of the kill, and otherwise "". It returns an error if it hit nothing, because the target may
// be down.
func (n *network) fall(ctx context.Context, s strike) (hit string, err error) {
	ctx, cancel := context.WithTimeout(ctx, blowTime)
	defer cancel()

	switch s.blow {
	case KillNode:
		return "", n.Signal(ctx, s.node, false, syscall.SIGKILL)
	case KillComet:
		return "", n.Signal(ctx, s.node, true, syscall.SIGKILL)
	}

	tree, err := n.clients[s.node].Tree(ctx)
	if err != nil {
		return "", err
	}
	all := targets(tree.Root)
	if len(all) == 0 {
		return "", fmt.Errorf("node %d has no tree", s.node)
	}

	t := all[s.pick%uint64(len(all))]
	var release time.Duration
	if t.how == apiv1.How_HOW_HANG {
		release = hangs
	}

	_, err = n.clients[s.node].Kill(ctx, t.path, t.how, release)
	return t.String(), err
}

// surely sends a signal to a node or its CometBFT. The process may just be restarting, so surely
// tries again until it succeeds, for at most backWithin.
func (n *network) surely(ctx context.Context, i int, comet bool, sig syscall.Signal) error {
	ctx, cancel := context.WithTimeout(ctx, backWithin)
	defer cancel()

	for {
		err := n.Signal(ctx, i, comet, sig)
		if err == nil {
			return nil
		}
		if ended := rig.Pause(ctx, 50*time.Millisecond); ended != nil {
			return fmt.Errorf("%w: %w", ended, err)
		}
	}
}

// bring starts the trouble of an episode.
func (n *network) bring(ctx context.Context, e episode) error {
	switch e.trouble {
	case CutOff, CutInTwo:
		return n.Partition(ctx, [][]int{e.nodes})
	case CutApart:
		var each [][]int
		for _, i := range e.nodes {
			each = append(each, []int{i})
		}
		return n.Partition(ctx, each)
	}

	for _, i := range e.nodes {
		var err error
		switch e.trouble {
		case PauseNode, PauseNodes:
			err = n.surely(ctx, i, false, syscall.SIGSTOP)
		case PauseComet, PauseComets:
			err = n.surely(ctx, i, true, syscall.SIGSTOP)
		case KillAll:
			err = n.surely(ctx, i, false, syscall.SIGKILL)
		}
		if err != nil {
			return fmt.Errorf("%v: node %d: %w", e.trouble, i, err)
		}
	}

	return nil
}

// lift ends the trouble of an episode.
func (n *network) lift(ctx context.Context, e episode) error {
	switch e.trouble {
	case CutOff, CutInTwo, CutApart:
		return n.Partition(ctx, [][]int{})

	case PauseNode, PauseNodes:
		for _, i := range e.nodes {
			if err := n.surely(ctx, i, false, syscall.SIGCONT); err != nil {
				return fmt.Errorf("node %d: %w", i, err)
			}
		}

	case PauseComet, PauseComets:
		for _, i := range e.nodes {
			// Signal fails if the watchdog has replaced the CometBFT and the new one was killed.
			_ = n.Signal(ctx, i, true, syscall.SIGCONT)
		}
	}
	return nil
}
