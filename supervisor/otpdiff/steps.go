package otpdiff

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

// step does one step. The text that it returns goes before the trace of what follows.
func (p *player) step(k int, s Step) string {
	if p.root == nil || p.root.Tree().State == supervisor.NotRunning {
		return "over\n"
	}

	fresh := p.takeFresh()

	switch s.Op {
	case Stop:
		return p.stopRoot(s.Reason)
	case Release:
		p.release()
		return ""
	case Sleep:
		time.Sleep(time.Duration(s.Millis) * time.Millisecond)
		return ""
	}

	parent := s.Path
	if s.Op == Die {
		parent = parentOf(s.Path)
	}
	if !p.alive(parent) || !p.alive(s.Path) {
		return "absent\n"
	}
	if s.By != "" && p.caller(s.By) == nil {
		return "absent\n"
	}

	if !p.allowed(parent, s) || !p.mayCall(s, fresh) {
		return "skipped\n"
	}
	if s.Op == Die {
		return p.die(s)
	}

	return p.call(k, s)
}

// caller returns the worker at a path, nil if it does not run.
func (p *player) caller(path string) *worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.workers[path]; w != nil && !w.ended {
		return w
	}
	return nil
}

// takeFresh returns the supervisor that the last step began to hold, and forgets it.
func (p *player) takeFresh() *string {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := p.fresh
	p.fresh = nil
	return fresh
}

// mayCall reports whether the two sides serve a call of a child alike, and whether they let a child
// that waits for an answer alone. A child that is told to stop does so in Go, and its call ends. In
// OTP it would wait for its answer first (rule 60). So the call must be the first that its
// supervisor serves. A child that OTP kills may die of that with the answer unread.
func (p *player) mayCall(s Step, fresh *string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()

	if s.Op == Die {
		w := p.workers[s.Path]
		return w == nil || !w.calling
	}
	if s.Op == Hold && len(p.gates) == 0 {
		p.fresh = &s.Path
	}
	if s.By == "" {
		return true
	}
	brutal := p.workers[s.By].node.Shutdown == supervisor.Brutal
	return !brutal && !s.stopsCaller() && (len(p.gates) == 0 || fresh != nil && *fresh == s.Path)
}

// allowed reports whether the consequences of step s have one order, which is the same on both
// sides (OTP rule 15). In Go a stop ends a start that hangs; in OTP it waits for that start. So
// while a start or stop hangs, a step may act only on a supervisor that waits for the hanging one,
// and may tell no such supervisor to end. Nor may it act on a supervisor whose parent waits too,
// because both would go on at the same time.
func (p *player) allowed(sup string, s Step) bool {
	p.mu.Lock()
	w := p.workers[s.Path]
	hanging, atGate := len(p.gates) > 0, s.Op == Die && w != nil && !w.ended && w.slow
	p.mu.Unlock()

	switch {
	case !hanging:
		return true
	case s.Op == Finish, s.Op == GetSpec: // rule 28: reads do not wait
		return false
	default:
		return atGate || p.blocked(sup) && (sup == "" || !p.blocked(parentOf(sup)))
	}
}

func (p *player) stopRoot(reason string) string {
	p.mu.Lock()
	p.open = true
	p.mu.Unlock()

	p.release()
	p.settle()
	var out strings.Builder
	p.report(&out)

	switch reason {
	case "normal":
		go func() { _ = p.root.Stop(context.Background()) }()
	case "shutdown":
		p.stop(supervisor.ErrShutdown)
	default:
		p.stop(errCrash)
	}

	return out.String()
}

func (p *player) die(s Step) string {
	p.mu.Lock()
	w := p.workers[s.Path]
	if w == nil || w.ended {
		p.mu.Unlock()
		return "absent\n"
	}

	slow := w.slow
	w.slow = false
	p.mu.Unlock()

	if s.Reason == "kill" {
		if err := p.root.Kill(s.Path, nil); err != nil {
			return fmt.Sprintf("kill: %v\n", err)
		}
	}

	switch {
	case slow:
		w.told <- s.Reason
	case s.Reason != "kill":
		w.orders <- s.Reason
	}

	return ""
}

func (p *player) call(k int, s Step) string {
	f := p.calls(s)
	switch {
	case f == nil:
		return "absent\n"

	case s.By == "":
		p.ask(k, func(answer func(string)) { go func() { answer(f(context.Background())) }() })

	default:
		w := p.caller(s.By)
		w.set(func() { w.calling = true })
		p.ask(k, func(answer func(string)) { w.calls <- func(ctx context.Context) { answer(f(ctx)) } })
	}

	return ""
}

// calls returns the call of a step, nil if its supervisor has no such call.
func (p *player) calls(s Step) func(ctx context.Context) string {
	p.mu.Lock()
	sup := p.sups[s.Path]
	if w := p.workers[s.Path]; w != nil && !w.ended {
		sup = nil
	}

	p.mu.Unlock()

	if s.Op == Finish && sup != nil {
		return func(context.Context) string { return p.finish(s, sup) }
	}

	switch sup := sup.(type) {
	case *supervisor.Supervisor:
		if run, err := sup.Run(); err == nil {
			return p.callsOf(run, s)
		}

	case *supervisor.Dynamic[*Node]:
		return p.callsOfDynamic(sup, s)
	}

	return nil
}

func (p *player) callsOf(run *supervisor.Run, s Step) func(ctx context.Context) string {
	switch s.Op {
	case Hold:
		return func(ctx context.Context) string { return p.started(run.StartChild(ctx, p.hold())) }

	case Start:
		return func(ctx context.Context) string { return p.started(run.StartChild(ctx, p.child(s.Child))) }

	case Restart:
		return func(ctx context.Context) string { return p.started(run.RestartChild(ctx, s.ID)) }

	case Terminate:
		return func(ctx context.Context) string { return p.answer(run.TerminateChild(ctx, s.ID)) }

	case Delete:
		return func(ctx context.Context) string { return p.answer(run.DeleteChild(ctx, s.ID)) }

	case GetSpec:
		return func(context.Context) string {
			c, err := run.ChildSpec(s.ID)
			if err != nil {
				return p.answer(err)
			}
			return fmt.Sprintf("%v %v", c.Restart, c.Significant)
		}
	}

	return nil
}

func (p *player) callsOfDynamic(sup *supervisor.Dynamic[*Node], s Step) func(ctx context.Context) string {
	switch s.Op {
	case Instance:
		return func(ctx context.Context) string { return p.started(sup.StartChild(ctx, s.Child.ID, s.Child)) }

	case Terminate:
		p.mu.Lock()
		ref, ok := p.refs[join(s.Path, s.ID)]
		p.mu.Unlock()
		if ok {
			return func(ctx context.Context) string { return p.answer(sup.TerminateRef(ctx, ref)) }
		}
	}

	return nil
}

// hold returns the child that keeps its supervisor busy. It is temporary and its start answers
// ignore, so nothing of it stays.
func (p *player) hold() supervisor.Child {
	return p.child(&Node{ID: "gate", Restart: supervisor.Temporary, Starts: holds})
}

// holds makes every start hang and then answer ignore. It has more outcomes than any path has
// starts in a history.
var holds = func() []Outcome {
	out := make([]Outcome, 1000)
	for i := range out {
		out[i] = Outcome{Hang: true, Kind: "ignore"}
	}
	return out
}()

// finish ends a supervisor from outside and waits for the end.
func (p *player) finish(s Step, sup supervisorLike) string {
	if s.Reason == "normal" {
		return p.answer(sup.Stop(context.Background()))
	}

	p.mu.Lock()
	ref := p.refs[s.Path]
	p.mu.Unlock()

	if err := p.root.Kill(s.Path, nil); err != nil {
		return p.answer(err)
	}

	<-supervisor.Monitor(ref)

	return "ok"
}

// ask notes that step k waits for an answer, and has call begin the call.
func (p *player) ask(k int, call func(answer func(string))) {
	p.mu.Lock()
	p.asked[k] = true
	p.mu.Unlock()

	call(func(a string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.asked, k)
		p.answers[k] = a
	})
}

func (p *player) started(ref supervisor.Ref, err error) string {
	switch {
	case err != nil:
		return p.answer(err)
	case ref == supervisor.Ref{}:
		return "ok none"
	case ref.Info() != nil:
		return fmt.Sprintf("ok %s %v", p.number(ref), ref.Info())
	default:
		return "ok " + p.number(ref)
	}
}

func (p *player) answer(err error) string {
	var failed *supervisor.StartError
	var already *supervisor.AlreadyStartedError

	switch {
	case err == nil:
		return "ok"

	case errors.As(err, &already):
		return "already_started " + p.number(already.Ref)

	case errors.As(err, &failed):
		return "error " + startReason(failed.Err)

	case errors.Is(err, supervisor.ErrAlreadyPresent):
		return "already_present"

	case errors.Is(err, supervisor.ErrNotFound):
		return "not_found"

	case errors.Is(err, supervisor.ErrRunning):
		return "running"

	case errors.Is(err, supervisor.ErrRestarting):
		return "restarting"

	case errors.Is(err, supervisor.ErrNotRunning):
		return "gone"

	case errors.Is(err, supervisor.ErrSpec):
		return "bad_spec"

	case errors.Is(err, supervisor.ErrOrphan): // OTP rule 60: OTP has killed it
		return "ok"

	default:
		return err.Error()
	}
}
