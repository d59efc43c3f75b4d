package suptest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/coppice-go/coppice/supervisor"
)

// Way is how a plan ends a child.
type Way uint8

const (
	// ByKill uses Kill: the context is cancelled and the exit is abnormal.
	ByKill Way = iota
	// ByPanic makes the child panic in its own goroutine. The child must read supervisor.Faults.
	ByPanic
	// ByGoexit makes it call runtime.Goexit there.
	ByGoexit
	// ByHang makes it block there, ignoring its context, and kills it. It ends when it has been
	// declared an orphan. Its shutdown time must not be Infinity.
	ByHang
)

func (w Way) String() string {
	switch w {
	case ByKill:
		return "kill"
	case ByPanic:
		return "panic"
	case ByGoexit:
		return "goexit"
	case ByHang:
		return "hang"
	}
	return fmt.Sprintf("Way(%d)", uint8(w))
}

// ErrPlanned is the reason of every end that a plan causes.
var ErrPlanned = errors.New("planned failure")

// Step ends one child in one way.
type Step struct {
	Path string
	Way  Way
}

func (s Step) String() string { return s.Way.String() + " " + s.Path }

// Plan is a sequence of steps. The same seed, paths and ways make the same plan, so a failing seed
// can be kept and run again.
type Plan struct {
	Seed  uint64
	Steps []Step
}

// NewPlan returns a plan of n random steps. Without ways, all steps use ByKill. NewPlan panics if
// there are no paths.
func NewPlan(seed uint64, n int, paths []string, ways ...Way) Plan {
	if len(ways) == 0 {
		ways = []Way{ByKill}
	}

	random := rand.New(rand.NewPCG(seed, seed))
	p := Plan{Seed: seed, Steps: make([]Step, n)}
	for i := range p.Steps {
		p.Steps[i] = Step{Path: paths[random.IntN(len(paths))], Way: ways[random.IntN(len(ways))]}
	}

	return p
}

// Do makes the child of the step fail. It does not wait for the consequences.
func (s Step) Do(ctx context.Context, run *supervisor.Run) error {
	switch s.Way {
	case ByPanic:
		return run.Inject(ctx, s.Path, supervisor.Fault{Name: s.String(), Do: func(context.Context) {
			panic(ErrPlanned)
		}})

	case ByGoexit:
		return run.Inject(ctx, s.Path, supervisor.Fault{Name: s.String(), Do: func(context.Context) {
			runtime.Goexit()
		}})

	case ByHang:
		if err := run.Inject(ctx, s.Path, supervisor.Fault{Name: s.String(), Do: func(ctx context.Context) {
			deaf(ctx, run)
		}}); err != nil {
			return err
		}
	}
	return run.Kill(s.Path, ErrPlanned)
}

// deaf blocks until the incarnation of ctx has been declared an orphan, or is over in another way.
func deaf(ctx context.Context, run *supervisor.Run) {
	orphaned := make(chan struct{}, 1)
	self := supervisor.Incarnation(ctx)
	look := func(e supervisor.Event) {
		if _, is := e.(supervisor.ChildOrphaned); is && e.Head().Incarnation == self {
			orphaned <- struct{}{}
		}
	}
	past, cancel := run.Subscribe(supervisor.ObserverFunc(look))
	defer cancel()

	for _, e := range past {
		look(e)
	}

	select {
	case <-orphaned:
	case <-supervisor.Monitor(supervisor.Self(ctx)):
	}
}

// Run does the steps one after the other. After each step it waits until the child has a new
// incarnation and the whole tree runs again. Then it calls healed, if that is not nil, to check
// what must hold. The test fails if the path of a step does not run when its turn comes.
func (p Plan) Run(t testing.TB, run *supervisor.Run, rec *Recorder, healed func(Step)) {
	t.Helper()
	for i, s := range p.Steps {
		before, ok := rec.Settle(t, run).Find(s.Path)
		if !ok {
			t.Fatalf("seed %d, step %d: no child %s in\n%s", p.Seed, i, s.Path, run.Tree())
		}
		if err := s.Do(t.Context(), run); err != nil {
			t.Fatalf("seed %d, step %d, %v: %v", p.Seed, i, s, err)
		}

		rec.until(t, fmt.Sprintf("recovery from step %d of seed %d, %v,", i, p.Seed, s), run.Changed, func() bool {
			tree := run.Tree()
			now, ok := tree.Find(s.Path)
			return ok && now.Incarnation > before.Incarnation && tree.Settled()
		})

		if healed != nil {
			healed(s)
		}
	}
}

// Hang returns a fault that blocks, ignoring its context, until release is closed. It makes an
// orphan.
func Hang(release <-chan struct{}) supervisor.Fault {
	return supervisor.Fault{Name: "hang", Do: func(context.Context) { <-release }}
}
