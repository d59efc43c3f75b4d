package supervisor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/pprof"
	"slices"
	"strings"
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
func (r *core) Tree() Tree { return r.tree(true) }

// tree returns the supervisor and, if deep is set, everything below it.
func (r *core) tree(deep bool) Tree {
	r.mu.Lock()
	t := Tree{ID: r.name, Path: r.own.path, State: r.state, Incarnation: r.own.id, Since: r.own.began,
		Intensity: r.intensity, InWindow: r.window.count(time.Now(), r.intensity.Period)}
	t.Busy = r.busy || !r.box.empty() || r.stopping()
	kids := r.kids.draw(&t, deep)
	if r.state == NotRunning {
		kids, t.Busy = nil, false
	}

	incs := make([]*incarnation, len(kids))

	for i, k := range kids {
		n := r.sketch(k)
		if incs[i] = k.common().inc; incs[i] != nil {
			t.Busy = t.Busy || !Ref{incs[i]}.Alive() // its exit is on the way
		}
		t.Children = append(t.Children, n)
	}

	r.mu.Unlock()

	for i, inc := range incs {
		if inc != nil {
			t.Children[i] = inc.complete(t.Children[i], true)
		}
	}

	return t
}

// sketch returns what the supervisor knows of a child. r.mu is held.
func (r *core) sketch(k kid) Tree {
	s, kind := k.common(), k.kindOf()
	c := s.child.withDefaults(kind, kind)
	n := Tree{ID: s.id, Path: r.pathOf(s.id), Kind: kind, State: k.status(), Restart: c.Restart,
		Significant: c.Significant, Shutdown: c.Shutdown, Restarts: s.restarts, LastExit: s.lastExit}

	if s.inc != nil {
		n.Incarnation, n.Since, n.State = s.inc.id, s.inc.began, s.inc.seen(n.State)
	}

	return n
}

func (r *core) place(id string) (t Tree, inc *incarnation, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.state == NotRunning {
		return t, nil, false
	}
	k := r.kids.byName(id)
	if k == nil {
		return t, nil, false
	}

	return r.sketch(k), k.common().inc, true
}

func (r *core) lists() bool {
	_, ok := r.kids.(*dynamicRun)
	return ok
}

// Inspected is implemented by a service that shows some of its state to operators. A service that
// does not implement it shows none, because state may hold secrets.
type Inspected interface {
	// Inspect returns names and values. It is called in a goroutine of its own, beside Serve, so it
	// must be safe for concurrent use and must not wait for the service. ctx ends after
	// InspectTime. What is beyond the limits below is left out.
	Inspect(ctx context.Context) map[string]string
}

// Limits of one Inspect.
const (
	InspectTime   = 200 * time.Millisecond
	InspectValues = 64       // names
	InspectBytes  = 16 << 10 // of all names and values
)

var (
	// ErrNotInspected: the child's service shows nothing of its state.
	ErrNotInspected = errors.New("does not implement supervisor.Inspected")

	// ErrInspecting: an earlier Inspect of the incarnation has not returned.
	ErrInspecting = errors.New("an earlier Inspect has not returned yet")

	// ErrInspect: Inspect panicked, or did not return within InspectTime.
	ErrInspect = errors.New("Inspect failed")
)

// Inspect returns what the service of the child at path shows of its state, if it is an Inspected.
// It returns within InspectTime whatever the service does, and a service that does not return from
// Inspect is not asked again.
func (s *scope) Inspect(ctx context.Context, path string) (map[string]string, error) {
	inc, err := s.resolve(path)
	if err != nil {
		return nil, err
	}

	inc.mu.Lock()
	service, ok := inc.service.(Inspected)
	inc.mu.Unlock()

	if !ok {
		return nil, fmt.Errorf("%s %w", inc.subject(), ErrNotInspected)
	}
	if !inc.inspecting.CompareAndSwap(false, true) {
		return nil, fmt.Errorf("%s: %w", inc.subject(), ErrInspecting)
	}

	type answer struct {
		values map[string]string
		err    error
	}
	answers := make(chan answer, 1)
	ctx, cancel := context.WithTimeout(ctx, InspectTime)
	defer cancel()

	go func() {
		pprof.SetGoroutineLabels(context.Background())
		a := answer{err: ErrGoexit}
		defer func() {
			if v := recover(); v != nil {
				a = answer{err: newPanic(v)}
			}
			inc.inspecting.Store(false)
			answers <- a
		}()
		a = answer{values: bounded(service.Inspect(ctx))}
	}()

	select {
	case a := <-answers:
		if a.err != nil {
			return nil, fmt.Errorf("%s: %w: %w", inc.subject(), ErrInspect, a.err)
		}
		return a.values, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w: no answer within %v: %w", inc.subject(), ErrInspect, InspectTime,
			context.Cause(ctx))
	}
}

// bounded returns a copy of what fits into the limits, in the order of the names.
func bounded(values map[string]string) map[string]string {
	out, room := make(map[string]string, min(len(values), InspectValues)), InspectBytes

	for _, name := range slices.Sorted(maps.Keys(values)) {
		if len(out) == InspectValues || len(name) > room {
			break
		}
		v := values[name]
		room -= len(name)
		if len(v) > room {
			v = strings.ToValidUTF8(v[:room], "")
		}
		room -= len(v)
		out[name] = v
	}

	return out
}

// Inspect calls Inspect of the run.
func (h *handle) Inspect(ctx context.Context, path string) (map[string]string, error) {
	r, err := h.living()
	if err != nil {
		return nil, err
	}
	return r.Inspect(ctx, path)
}

// Stacks returns the number and the stacks of the goroutines of the child at path. It reads the
// goroutine profile, which stops the program for a moment, so it is for a person who asks for it.
func (s *scope) Stacks(path string) (goroutines int, stacks string, err error) {
	inc, err := s.resolve(path)
	if err != nil {
		return 0, "", err
	}
	o := goroutinesOf(inc.id)[inc.id]
	return o.Goroutines, o.Stack, nil
}

// Stacks calls Stacks of the run.
func (h *handle) Stacks(path string) (goroutines int, stacks string, err error) {
	r, err := h.living()
	if err != nil {
		return 0, "", err
	}
	return r.Stacks(path)
}

// Group returns the IDs of the children that a restart of the child at path stops and starts again,
// or stops for good if they are temporary: the child and the siblings that its supervisor's
// strategy names, in start order. It does not wait.
func (s *scope) Group(path string) ([]string, error) {
	above, id := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		above, id = path[:i], path[i+1:]
	}
	inc, err := s.resolve(above)
	if err != nil {
		return nil, err
	}

	n, inner := inc.nodes()
	if n == nil && inner[id] == nil {
		return nil, fmt.Errorf("supervisor %s %w", inc.subject(), ErrNotRunning)
	}
	if n == nil || inner[id] != nil {
		return []string{id}, nil
	}

	return n.group(id)
}

// Group calls Group of the run.
func (h *handle) Group(path string) ([]string, error) {
	r, err := h.living()
	if err != nil {
		return nil, err
	}
	return r.Group(path)
}

func (r *core) group(id string) ([]string, error) {
	var ids []string
	err := r.withChild(id, func(k kid) {
		run, ok := r.kids.(*Run)
		if !ok {
			ids = []string{id}
			return
		}
		from, to := group(run.spec.Strategy, len(run.records), slices.Index(run.records, k.(*record)))
		for _, rec := range run.records[from:to] {
			ids = append(ids, rec.id)
		}
	})
	return ids, err
}
