package supervisor

import (
	"fmt"
	"time"
)

// The listings of a run, for its callers and for snapshots. Nothing here waits.

func report(k kid) ChildInfo {
	s := k.common()
	return ChildInfo{ID: s.id, Kind: k.kindOf(), State: k.status(), Ref: Ref{s.inc}}
}

// WhichChildren lists the specifications, newest start first (OTP rule 28). It does not wait.
func (r *core) WhichChildren() ([]ChildInfo, error) {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.state == NotRunning {
		return nil, r.gone()
	}

	kids := r.kids.all()
	out := make([]ChildInfo, 0, len(kids))
	for i := len(kids) - 1; i >= 0; i-- {
		out = append(out, report(kids[i]))
	}

	return out, nil
}

// withChild calls f with the child of that ID. f must not wait.
func (r *core) withChild(id string, f func(kid)) error {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.state == NotRunning {
		return r.gone()
	}
	k := r.kids.byName(id)
	if k == nil {
		return fmt.Errorf("%s has no child %q: %w", r.own.subject(), id, ErrNotFound)
	}

	f(k)

	return nil
}

// WhichChild returns the entry of WhichChildren with that ID, or ErrNotFound (OTP rule 29). The ID
// is that of a child of this supervisor's own, not a path; see Tree for what is below. It does not
// wait.
func (r *core) WhichChild(id string) (info ChildInfo, err error) {
	err = r.withChild(id, func(k kid) { info = report(k) })
	return info, err
}

// CountChildren counts the specifications, the children that are alive, and the supervisors and
// workers among all children (OTP rule 30). It does not wait.
func (r *core) CountChildren() (Counts, error) {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.state == NotRunning {
		return Counts{}, r.gone()
	}

	var c Counts

	for _, k := range r.kids.all() {
		c.Specs++
		if (Ref{k.common().inc}).Alive() {
			c.Active++
		}

		if k.kindOf() == Worker {
			c.Workers++
		} else {
			c.Supervisors++
		}
	}

	return c, nil
}

// find returns the current incarnation of a child, for paths.
func (r *core) find(id string) (inc *incarnation, err error) {
	e := r.withChild(id, func(k kid) {
		if inc = k.common().inc; inc != nil {
			return
		}

		reason := ErrNotRunning
		if k.status() == Restarting {
			reason = ErrRestarting
		}

		err = fmt.Errorf("%s %w", r.pathOf(id), reason)
	})

	if e != nil {
		return nil, e
	}
	return inc, err
}

// Tree returns a snapshot of the whole subtree. It never waits, whatever the children are doing.
// When the run is over, it is the supervisor alone.
func (r *core) Tree() Tree { return r.tree() }

func (r *core) tree() Tree {
	r.mu.Lock()
	t := Tree{ID: r.name, Path: r.own.path, State: r.state, Incarnation: r.own.id, Since: r.own.began,
		Intensity: r.intensity, InWindow: r.window.count(time.Now(), r.intensity.Period)}
	t.Busy = r.busy || !r.box.empty() || r.stopping()
	kids := r.kids.draw(&t)
	if r.state == NotRunning {
		kids, t.Busy = nil, false
	}

	incs := make([]*incarnation, len(kids))

	for i, k := range kids {
		s, kind := k.common(), k.kindOf()
		c := s.child.withDefaults(kind, kind)
		n := Tree{ID: s.id, Path: r.pathOf(s.id), Kind: kind, State: k.status(), Restart: c.Restart,
			Significant: c.Significant, Shutdown: c.Shutdown, Restarts: s.restarts, LastExit: s.lastExit}

		if s.inc != nil {
			n.Incarnation, n.Since, n.State = s.inc.id, s.inc.began, s.inc.seen(n.State)
			t.Busy = t.Busy || !Ref{s.inc}.Alive() // its exit is on the way
		}

		incs[i] = s.inc
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
