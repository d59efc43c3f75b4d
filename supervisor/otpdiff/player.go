package otpdiff

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

var (
	errBoom    = errors.New("boom")
	errCrash   = errors.New("crash")
	errGarbage = errors.New("garbage")
	errDetail  = fmt.Errorf("%w: detail", supervisor.ErrShutdown)
)

// player plays one history on package supervisor.
type player struct {
	quiet func() // returns when only the passing of time can make anything run
	met   features
	root  *supervisor.Supervisor
	stop  context.CancelCauseFunc
	over  chan struct{} // closed at the end of the history: deaf workers end

	mu      sync.Mutex
	events  []supervisor.Event // since the last step
	up      map[uint64]bool    // supervisors that came up, by incarnation
	counts  map[string]int
	lives   map[uint64]life
	nodes   map[string]*Node // as started last
	workers map[string]*worker
	sups    map[string]supervisorLike
	refs    map[string]supervisor.Ref // as listed last
	gates   []chan struct{}           // those that are shut, in the order of arrival
	open    bool
	deaf    map[uint64]time.Duration
	asked   map[int]bool
	answers map[int]string
	fresh   *string // the supervisor that the last step began to hold, while nothing else hung
}

// life is one incarnation.
type life struct {
	n        int
	node     *Node
	instance bool // of a dynamic supervisor
}

// supervisorLike has the methods of *Supervisor and *Dynamic that a player uses.
type supervisorLike interface {
	CountChildren() (supervisor.Counts, error)
	WhichChildren() ([]supervisor.ChildInfo, error)
	Stop(context.Context) error
}

// play plays a history and returns its trace. It adds the features that it met to met. It must be
// called where quiet works, which is in a synctest bubble.
func play(h History, quiet func(), met features) string {
	p := &player{
		quiet: quiet, met: met, over: make(chan struct{}), up: map[uint64]bool{}, counts: map[string]int{},
		lives: map[uint64]life{}, nodes: map[string]*Node{},
		workers: map[string]*worker{}, sups: map[string]supervisorLike{}, deaf: map[uint64]time.Duration{},
		refs: map[string]supervisor.Ref{}, asked: map[int]bool{}, answers: map[int]string{},
	}
	defer close(p.over)

	var out strings.Builder
	out.WriteString("== start\nstart root#1\n")
	p.open = true // nothing hangs until the steps begin, which can open gates
	ctx, cancel := context.WithCancelCause(context.Background())
	p.stop = cancel

	root, err := supervisor.New(p.spec(&h.Root, 1, p))
	if err == nil {
		p.root, p.sups[""] = root, root
		_, err = root.Start(ctx)
	}

	switch {
	case err == nil:
		p.answers[0] = "ok"
	case errors.Is(err, supervisor.ErrIgnore):
		p.answers[0] = "ignore"
	default:
		p.answers[0] = "error " + startReason(err)
	}

	p.mu.Lock()
	p.open = false
	p.mu.Unlock()

	p.after(&out)

	for k, s := range h.Steps {
		fmt.Fprintf(&out, "== %d\n", k+1)
		out.WriteString(p.step(k+1, s))
		p.settle()
		p.after(&out)
	}

	cancel(nil)
	p.quiet()
	left := 0
	p.mu.Lock()

	for _, w := range p.workers {
		if !w.ended {
			left++
		}
	}

	p.mu.Unlock()

	fmt.Fprintf(&out, "left: %d\n", left)

	for k := range len(h.Steps) + 1 {
		if p.asked[k] {
			fmt.Fprintf(&out, "unanswered %d\n", k)
		}
	}

	return out.String()
}

// settle calls quiet, and then lets the shutdown times of deaf workers pass.
func (p *player) settle() {
	for {
		p.quiet()
		p.mu.Lock()
		var wait time.Duration
		for _, d := range p.deaf {
			wait = max(wait, d)
		}

		p.mu.Unlock()

		if wait == 0 {
			return
		}

		time.Sleep(wait)
	}
}

// Observe keeps the events for the trace.
func (p *player) Observe(e supervisor.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()

	switch e := e.(type) {
	case supervisor.GroupRestart:
		p.met.has("here: restart of %s, %v",
			map[bool]string{true: "a group of 2 or more", false: "one child"}[len(e.IDs) > 1], e.Strategy)

	case supervisor.AutoShutdownTriggered:
		p.met.has("here: automatic shutdown at level %d", strings.Count(e.Err.Child, "/")+1)

	case supervisor.RestartScheduled:
		if e.Attempt > 1 {
			p.met.has("here: %s attempts in a row",
				map[bool]string{true: "4 or more", false: fmt.Sprint(e.Attempt)}[e.Attempt > 3])
		}

	case supervisor.SupervisorStarted:
		p.up[e.Incarnation] = true

	case supervisor.ChildOrphaned:
		delete(p.deaf, e.Incarnation)
	}

	p.events = append(p.events, e)
}

// ---- children ----

// begin notes a start.
func (p *player) begin(ctx context.Context, n *Node, instance bool) (life, Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()

	path := supervisor.Path(ctx)
	p.counts[path]++
	l := life{n: p.counts[path], node: n, instance: instance}
	p.lives[supervisor.Incarnation(ctx)] = l
	p.nodes[path] = n
	o := n.outcome(l.n)
	if o.Kind == "info" {
		supervisor.SetInfo(ctx, "info")
	}

	return l, o
}

func (p *player) gate() {
	p.mu.Lock()
	if p.open {
		p.mu.Unlock()
		return
	}

	c := make(chan struct{})
	p.gates = append(p.gates, c)
	p.mu.Unlock()

	<-c
}

// release opens the gates one after the other. If it opened them together, two supervisors could
// act at the same time, in no certain order.
func (p *player) release() {
	p.mu.Lock()
	gates := slices.Clone(p.gates)
	p.mu.Unlock()

	for _, c := range gates {
		p.mu.Lock()
		p.forgetGate(c)
		p.mu.Unlock()
		close(c)
		p.settle()
	}
}

// forgetGate removes a gate. p.mu is held.
func (p *player) forgetGate(c chan struct{}) {
	p.gates = slices.DeleteFunc(p.gates, func(x chan struct{}) bool { return x == c })
}

// do does what an outcome says, except for the start itself.
func (p *player) do(o Outcome) error {
	if o.Hang {
		p.gate()
	}

	switch o.Kind {
	case "ignore":
		return supervisor.ErrIgnore
	case "boom":
		return errBoom
	case "garbage": // of a supervisor; for garbage, a worker's start returns nil and no error
		return errGarbage
	case "panic":
		panic("panic")
	}

	return nil
}

// child returns the specification of a node. Starts have no time limit (OTP rule 15). Children that
// OTP would kill are abandoned (rule 60).
func (p *player) child(n *Node) supervisor.Child {
	return supervisor.Child{
		ID: n.ID, Kind: n.kind(), Restart: n.Restart, Significant: n.Significant, Shutdown: n.Shutdown,
		StartTimeout: supervisor.Infinity, Orphan: supervisor.Abandon,
		Start: func(ctx context.Context) (supervisor.Service, error) { return p.start(ctx, n, false) },
	}
}

// kind returns the declared kind (OTP rule 30).
func (n *Node) kind() supervisor.Kind {
	switch {
	case n.Sup == nil:
		return supervisor.Worker
	case n.Sup.Dynamic:
		return supervisor.DynamicKind
	default:
		return supervisor.SupervisorKind
	}
}

func (p *player) start(ctx context.Context, n *Node, instance bool) (supervisor.Service, error) {
	l, o := p.begin(ctx, n, instance)
	path := supervisor.Path(ctx)

	switch {
	case n.Sup == nil:
		if err := p.do(o); err != nil {
			if o.Kind == "garbage" {
				return nil, nil
			}
			return nil, err
		}

		w := &worker{p: p, node: n, orders: make(chan string, 1), told: make(chan string, 1),
			calls: make(chan func(context.Context), 1)}
		p.mu.Lock()
		defer p.mu.Unlock()

		p.workers[path] = w

		return w, nil

	case n.Sup.Dynamic:
		if err := p.do(o); err != nil {
			return nil, err
		}
		d, err := supervisor.NewDynamic(p.dynamic(n))
		if err != nil {
			return nil, err
		}

		p.mu.Lock()
		defer p.mu.Unlock()

		p.sups[path] = d

		return d, nil

	default:
		s, err := supervisor.New(p.spec(n, l.n))
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.sups[path] = s
		return s, nil
	}
}

func (p *player) spec(n *Node, k int, observers ...supervisor.Observer) supervisor.Spec {
	return supervisor.Spec{
		Name: n.ID, Strategy: n.Sup.Strategy, AutoShutdown: n.Sup.Auto, Observers: observers,
		Intensity: supervisor.Intensity{Max: n.Sup.Max, Period: time.Duration(n.Sup.Period) * time.Second},
		Build: func(context.Context) ([]supervisor.Child, error) {
			if err := p.do(n.outcome(k)); err != nil {
				return nil, err
			}
			var out []supervisor.Child
			for i := range n.Sup.Children {
				out = append(out, p.child(&n.Sup.Children[i]))
			}
			return out, nil
		},
	}
}

func (p *player) dynamic(n *Node) supervisor.DynamicSpec[*Node] {
	t := &n.Sup.Children[0]
	return supervisor.DynamicSpec[*Node]{
		Name: n.ID, Restart: t.Restart, Shutdown: t.Shutdown, StartTimeout: supervisor.Infinity,
		Orphan: supervisor.Abandon, Verbose: true,
		Intensity: supervisor.Intensity{Max: n.Sup.Max, Period: time.Duration(n.Sup.Period) * time.Second},
		Start: func(ctx context.Context, arg *Node) (supervisor.Service, error) {
			instance := *arg
			instance.Restart, instance.Shutdown = t.Restart, t.Shutdown
			return p.start(ctx, &instance, true)
		},
	}
}

// worker is a child that is not a supervisor.
type worker struct {
	p      *player
	node   *Node
	orders chan string // makes it end by itself, before it is told to stop
	told   chan string // makes it end by itself while it is stopping and waits at a gate
	calls  chan func(context.Context)

	// Guarded by p.mu.
	slow    bool // it is stopping and waits at a gate
	calling bool // it waits for the answer to a call
	ended   bool
}

func (w *worker) set(f func()) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	f()
}

// Serve ends as the node or the history says.
func (w *worker) Serve(ctx context.Context) error {
	defer w.set(func() { w.ended = true })

	for ctx.Err() == nil {
		select {
		case r := <-w.orders:
			return die(ctx, r)
		case f := <-w.calls:
			f(ctx)
			w.set(func() { w.calling = false })
		case <-ctx.Done():
		}
	}

	if errors.Is(context.Cause(ctx), supervisor.ErrKilled) || w.node.Shutdown == supervisor.Brutal {
		return ctx.Err() // a kill does not depend on OnStop
	}

	switch w.node.OnStop {
	case "normal":
		return nil

	case "crash":
		return errCrash

	case "detail":
		return errDetail

	case "deaf":
		w.set(func() { w.ended, w.p.deaf[supervisor.Incarnation(ctx)] = true, w.node.Shutdown })
		<-w.p.over

	case "slow":
		gate := make(chan struct{})
		w.set(func() {
			if w.p.open {
				close(gate)
			} else {
				w.slow, w.p.gates = true, append(w.p.gates, gate)
			}
		})

		select {
		case <-gate:
		case r := <-w.told:
			w.set(func() { w.p.forgetGate(gate) })
			return die(ctx, r)
		}
	}

	return ctx.Err()
}

func die(ctx context.Context, reason string) error {
	switch reason {
	case "normal":
		return nil

	case "shutdown":
		return supervisor.ErrShutdown

	case "detail":
		return errDetail

	case "crash":
		return errCrash

	case "panic":
		panic("panic")

	case "goexit":
		runtime.Goexit()
	}
	return ctx.Err() // killed
}

// ---- the state, as seen at a quiet point ----

func (p *player) alive(path string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()

	if s, ok := p.sups[path]; ok {
		if _, err := s.CountChildren(); err == nil {
			return true
		}
	}

	w, ok := p.workers[path]
	return ok && !w.ended
}

// blocked reports whether a supervisor is busy with a start, a stop or a restart.
func (p *player) blocked(path string) bool {
	t, ok := p.root.Tree().Find(path)
	return ok && busy(t)
}

func busy(t supervisor.Tree) bool {
	return t.Busy || t.State == supervisor.Starting || t.State == supervisor.Stopping
}

func (p *player) number(ref supervisor.Ref) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("#%d", p.lives[ref.Incarnation()].n)
}

// after writes what happened since the last step, the answers that came, and the state of the
// supervisors.
func (p *player) after(out *strings.Builder) {
	p.settle()
	p.report(out)
	if p.root == nil {
		return
	}
	if t := p.root.Tree(); t.State != supervisor.NotRunning {
		p.snapshot(out, t)
	}
}

func (p *player) report(out *strings.Builder) {
	p.mu.Lock()
	defer p.mu.Unlock()

	events := p.events
	p.events = nil
	ended := ""

	for _, line := range p.lines(events) {
		out.WriteString(line + "\n")
		if reason, ok := strings.CutPrefix(line, "end root#1 "); ok {
			ended = "root ended: " + reason + "\n"
		}
	}

	var ks []int
	for k := range p.answers {
		ks = append(ks, k)
	}

	slices.Sort(ks)
	for _, k := range ks {
		fmt.Fprintf(out, "answer %d: %s\n", k, p.answers[k])
	}

	clear(p.answers)
	out.WriteString(ended)
}

func (p *player) snapshot(out *strings.Builder, t supervisor.Tree) {
	name := t.Path
	if name == "" {
		name = "root"
	}

	if busy(t) {
		fmt.Fprintf(out, "blocked %s\n", name)
		return
	}

	p.mu.Lock()
	s := p.sups[t.Path]
	p.mu.Unlock()

	infos, err := s.WhichChildren()
	counts, err2 := s.CountChildren()
	if err != nil || err2 != nil {
		fmt.Fprintf(out, "which %s: %v, %v\n", name, err, err2)
		return
	}

	var entries []string

	for _, i := range infos {
		id := i.ID
		if t.Kind == supervisor.DynamicKind {
			id = join(t.Path, i.ID)
		}

		switch {
		case i.State == supervisor.Restarting:
			id += "~"
		case i.Ref == supervisor.Ref{}:
			id += "-"
		default:
			id += p.number(i.Ref)
			p.refs[join(t.Path, i.ID)] = i.Ref
		}

		entries = append(entries, " "+id)
	}

	if t.Kind == supervisor.DynamicKind {
		slices.Sort(entries)
	}

	fmt.Fprintf(out, "which %s:%s\n", name, strings.Join(entries, ""))
	fmt.Fprintf(out, "count %s: %d %d %d %d\n", name, counts.Specs, counts.Active, counts.Supervisors, counts.Workers)

	for _, c := range slices.Backward(t.Children) {
		if c.Kind != supervisor.Worker && c.Incarnation != 0 {
			p.snapshot(out, c)
		}
	}
}
