package supervisor

import (
	"context"
	"fmt"
	"sync/atomic"
)

// handle is the part that a Supervisor and a Dynamic share: at most one run at a time, and the
// calls that go to that run.
type handle struct {
	name string
	busy atomic.Bool
	run  atomic.Pointer[core] // the newest
	runs signal               // fires when there is a new run
}

// acquire reserves the handle for a new run; the end of the run releases it.
func (h *handle) acquire() error {
	if !h.busy.CompareAndSwap(false, true) {
		return fmt.Errorf("supervisor %s %w", h.name, ErrRunning)
	}
	return nil
}

func (h *handle) release() { h.busy.Store(false) }

// begin makes r the current run.
func (h *handle) begin(r *core) {
	old := h.run.Swap(r)
	h.runs.fire()
	if old != nil {
		old.hub.changes.fire()
	}
}

// Changed calls Changed of the newest run. A new run is a change, too.
func (h *handle) Changed() <-chan struct{} {
	for {
		r := h.run.Load()
		c := h.runs.next()
		if r != nil {
			c = r.Changed()
		}
		if h.run.Load() == r {
			return c
		}
	}
}

// living returns the run, if it has not ended.
func (h *handle) living() (*core, error) {
	if r := h.run.Load(); r != nil && h.busy.Load() {
		return r, nil
	}
	return nil, fmt.Errorf("supervisor %s %w", h.name, ErrNotRunning)
}

// WhichChildren calls WhichChildren of the run. That of a Dynamic lists its instances, in no
// particular order.
func (h *handle) WhichChildren() ([]ChildInfo, error) {
	r, err := h.living()
	if err != nil {
		return nil, err
	}
	return r.WhichChildren()
}

// WhichChild calls WhichChild of the run.
func (h *handle) WhichChild(id string) (ChildInfo, error) {
	r, err := h.living()
	if err != nil {
		return ChildInfo{}, err
	}
	return r.WhichChild(id)
}

// CountChildren calls CountChildren of the run.
func (h *handle) CountChildren() (Counts, error) {
	r, err := h.living()
	if err != nil {
		return Counts{}, err
	}
	return r.CountChildren()
}

// Kill calls Kill of the run.
func (h *handle) Kill(path string, reason error) error {
	r, err := h.living()
	if err != nil {
		return err
	}
	return r.Kill(path, reason)
}

// Inject calls Inject of the run.
func (h *handle) Inject(ctx context.Context, path string, f Fault) error {
	r, err := h.living()
	if err != nil {
		return err
	}
	return r.Inject(ctx, path, f)
}

// Orphans calls Orphans of the newest run, even if that is over.
func (h *handle) Orphans() []Orphan {
	if r := h.run.Load(); r != nil {
		return r.Orphans()
	}
	return nil
}

// Events calls Events of the newest run, even if that is over.
func (h *handle) Events() []Event {
	if r := h.run.Load(); r != nil {
		return r.Events()
	}
	return nil
}

// Stop calls Stop of the run.
func (h *handle) Stop(ctx context.Context) error {
	r, err := h.living()
	if err != nil {
		return err
	}
	return r.Stop(ctx)
}
