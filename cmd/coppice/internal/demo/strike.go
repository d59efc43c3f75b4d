package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// strike makes the kill, and waits until a transaction submitted after it is committed and the tree
// is whole again.
func (d *demo) strike(ctx context.Context, t target, r *Row) error {
	if err := d.rig.Grow(ctx, between+d.rand.IntN(between)); err != nil {
		return err
	}
	before, err := d.rig.Client.Tree(ctx)
	if err != nil {
		return err
	}

	begin := time.Now()
	killed, err := d.blow(ctx, t)
	if err != nil {
		return err
	}

	ready, cancel := context.WithTimeoutCause(ctx, rig.ReadyWithin, fmt.Errorf("no commit within %v", rig.ReadyWithin))
	defer cancel()

	if _, err := d.rig.Probe(ready); err != nil {
		return errors.Join(context.Cause(ready), err, d.died())
	}

	r.NextCommit = time.Since(begin)
	var old map[string]uint64 // incarnations that must be replaced
	if killed != nil {
		old = incarnationsOf(before.Root, scope(before, killed.Path))
	}
	after, err := d.whole(ctx, old)
	if err != nil {
		return errors.Join(err, d.died())
	}

	r.Restarted = restarted(before, after)

	if killed != nil {
		if w := wider(before, after, killed.Path); len(w) > 0 {
			r.Problem = fmt.Sprintf("restarted wider than specified: %s", strings.Join(w, ", "))
		}
	}

	return nil
}

// died returns an error if the process has ended.
func (d *demo) died() error {
	select {
	case <-d.rig.Process().Done():
		return fmt.Errorf("the process ended: %s", d.rig.Process().Exit())
	default:
		return nil
	}
}

// blow makes the kill and returns what it hit. If it killed the process, it starts the process
// again and returns nil.
func (d *demo) blow(ctx context.Context, t target) (*apiv1.KillResponse, error) {
	p := d.rig.Process()
	switch {
	case t.how == sigkill:
		p.Crash()
		return nil, d.rig.Start(ctx)
	case t.path == rig.Root:
		// The process may end before it has answered.
		if _, err := d.rig.Client.Kill(ctx, t.path, t.how, 0); err != nil &&
			connect.CodeOf(err) != connect.CodeUnavailable && connect.CodeOf(err) != connect.CodeUnknown {
			return nil, err
		}

		late := time.NewTimer(rig.ReadyWithin)
		defer late.Stop()

		select {
		case <-p.Done():
		case <-late.C:
			return nil, fmt.Errorf("the process did not end within %v of its root's end", rig.ReadyWithin)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}

		return nil, d.rig.Start(ctx)
	}

	var after time.Duration
	if t.how == apiv1.How_HOW_HANG {
		after = release
	}

	deadline := time.Now().Add(rig.ReadyWithin)

	for {
		killed, err := d.rig.Client.Kill(ctx, t.path, t.how, after)
		// A transient child may end before it is hit, or before it takes the fault. Then the next
		// one is as good.
		missed := err != nil && slices.Contains([]connect.Code{connect.CodeNotFound, connect.CodeFailedPrecondition,
			connect.CodeInvalidArgument}, connect.CodeOf(err))

		if missed && strings.HasSuffix(t.path, "/*") && time.Now().Before(deadline) && ctx.Err() == nil {
			continue
		}
		return killed, err
	}
}

// whole waits until every specified child runs, and each child in old in another incarnation.
func (d *demo) whole(ctx context.Context, old map[string]uint64) (*apiv1.TreeResponse, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, rig.ReadyWithin,
		fmt.Errorf("the tree was not whole within %v", rig.ReadyWithin))
	defer cancel()

	for {
		t, err := d.rig.Client.Tree(ctx)
		if err == nil {
			if down := notRunning(t.Root, old); down == "" {
				return t, nil
			} else {
				err = fmt.Errorf("%s does not run", down)
			}
		}

		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}
