package supervisor

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// What a dynamic supervisor says of itself. Nothing here waits.

func (in *instance) state() State {
	switch {
	case in.inc == nil:
		return Restarting
	case in.stopping:
		return Stopping
	case !in.inc.started():
		return Starting
	default:
		return Running
	}
}

func (in *instance) report() ChildInfo {
	if in.inc == nil {
		return ChildInfo{ID: in.id, State: Restarting}
	}
	return ChildInfo{ID: in.id, Kind: in.inc.kindOf(), State: in.state(), Ref: Ref{in.inc}}
}

func (r *dynamicRun) whichChildren() ([]ChildInfo, error) {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.state == NotRunning {
		return nil, r.gone()
	}

	out := make([]ChildInfo, 0, len(r.instances))
	for _, in := range r.instances {
		out = append(out, in.report())
	}

	return out, nil
}

func (r *dynamicRun) whichChild(id string) (ChildInfo, error) {
	r.mu.Lock()
	defer r.mu.Unlock()

	in := r.instances[id]

	switch {
	case r.state == NotRunning:
		return ChildInfo{}, r.gone()
	case in == nil:
		return ChildInfo{}, fmt.Errorf("%s has no child %q: %w", r.own.subject(), id, ErrNotFound)
	}

	return in.report(), nil
}

func (r *dynamicRun) countChildren() (Counts, error) {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.state == NotRunning {
		return Counts{}, r.gone()
	}

	c := Counts{Specs: 1}

	for _, in := range r.instances {
		if in.inc != nil {
			c.Active++
		}
		if in.report().Kind == Worker {
			c.Workers++
		} else {
			c.Supervisors++
		}
	}

	return c, nil
}

func (r *dynamicRun) find(id string) (*incarnation, error) {
	info, err := r.whichChild(id)
	if err != nil {
		return nil, err
	}
	if info.Ref.inc == nil {
		return nil, fmt.Errorf("%s/%s %w", r.own.subject(), id, ErrRestarting)
	}
	return info.Ref.inc, nil
}

func (r *dynamicRun) tree() Tree {
	r.mu.Lock()
	t := Tree{
		ID: r.name, Path: r.own.path, Kind: DynamicKind, State: r.state, Incarnation: r.own.id, Since: r.own.began,
		Intensity: r.intensity, InWindow: r.window.count(time.Now(), r.intensity.Period), Instances: len(r.instances),
	}
	t.Busy = r.busy || !r.box.empty() || r.stopping()
	list := make([]*instance, 0, len(r.instances))

	for _, in := range r.instances {
		list = append(list, in)
		t.Busy = t.Busy || (in.inc != nil && !Ref{in.inc}.Alive())
		if in.inc != nil && in.inc.seen(in.state()) == Running {
			t.InstancesRunning++
		}
	}

	slices.SortFunc(list, func(a, b *instance) int {
		return cmp.Or(cmp.Compare(a.number(), b.number()), cmp.Compare(a.id, b.id))
	})
	list = list[:min(len(list), TreeInstances)]
	incs := make([]*incarnation, len(list))

	for i, in := range list {
		kind := in.report().Kind
		c := r.child.withDefaults(kind, kind)
		n := Tree{
			ID: in.id, Path: r.pathOf(in), Kind: kind, State: in.state(), Restart: c.Restart, Shutdown: c.Shutdown,
			Restarts: in.restarts, LastExit: in.lastExit,
		}

		if in.inc != nil {
			n.Incarnation, n.Since, n.State = in.inc.id, in.inc.began, in.inc.seen(n.State)
		}

		incs[i] = in.inc
		t.Children = append(t.Children, n)
	}

	r.mu.Unlock()

	for i, inc := range incs {
		if inc != nil {
			t.Children[i] = inc.complete(t.Children[i])
		}
	}

	return t
}

func (in *instance) number() uint64 {
	if in.inc == nil {
		return 0
	}
	return in.inc.id
}
