package exit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/supervisor"
)

// DamageWatch ends a run at once when a child of the tree's core exits or fails to start with an
// error that reports damage, or that the consensus cannot be started. No restart repairs the data
// on a disk. Without the watch, the run would end only after all the restarts that the limits of
// the tree allow.
type DamageWatch struct {
	mu     sync.Mutex
	cancel context.CancelCauseFunc // of the run
	err    error
}

// Run returns the context of a run. When d finds damage, it cancels that context.
func (d *DamageWatch) Run(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cancel = end
	return ctx, func() { end(nil) }
}

// Reason returns the damage that ended the run; nil if none did.
func (d *DamageWatch) Reason() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// Observe takes an event of the tree (see supervisor.Observer).
func (d *DamageWatch) Observe(e supervisor.Event) {
	var err error
	switch e := e.(type) {
	case supervisor.ChildExited:
		err = e.Exit.Err
	case supervisor.ChildStartFailed:
		err = e.Err
	}

	path := e.Head().Path
	if err == nil || !strings.HasPrefix(path, plan.PathNode+"/") {
		return
	}

	err = Classify(err)

	// Damage that an engine reports, or finds in what it reads, is not damage to the node's own
	// data.
	if strings.HasPrefix(path, plan.PathEngines+"/") {
		if !errors.Is(err, consensus.ErrFinal) || !strings.HasPrefix(path, plan.PathConsensus+"/") {
			return
		}
	} else if !errors.Is(err, ErrDamage) {
		return
	}

	d.mu.Lock()
	defer d.mu.Unlock()

	if d.err == nil {
		d.err = fmt.Errorf("%s: %w", path, err)
		if d.cancel != nil {
			d.cancel(d.err)
		}
	}
}
