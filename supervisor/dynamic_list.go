package supervisor

import (
	"cmp"
	"slices"
)

func (in *instance) status() State {
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

func (in *instance) kindOf() Kind {
	if in.inc == nil {
		return Worker
	}
	return in.inc.kindOf()
}

func (r *dynamicRun) byName(id string) kid {
	if in := r.instances[id]; in != nil {
		return in
	}
	return nil
}

func (r *dynamicRun) all() []kid {
	out := make([]kid, 0, len(r.instances))
	for _, in := range r.instances {
		out = append(out, in)
	}
	return out
}

func (r *dynamicRun) draw(t *Tree) []kid {
	t.Kind, t.Instances = DynamicKind, len(r.instances)
	list := make([]*instance, 0, len(r.instances))

	for _, in := range r.instances {
		list = append(list, in)
		t.Busy = t.Busy || (in.inc != nil && !Ref{in.inc}.Alive())
		if in.inc != nil && in.inc.seen(in.status()) == Running {
			t.InstancesRunning++
		}
	}

	slices.SortFunc(list, func(a, b *instance) int {
		return cmp.Or(cmp.Compare(a.number(), b.number()), cmp.Compare(a.id, b.id))
	})

	var out []kid
	for _, in := range list[:min(len(list), TreeInstances)] {
		out = append(out, in)
	}

	return out
}

func (in *instance) number() uint64 {
	if in.inc == nil {
		return 0
	}
	return in.inc.id
}
