package supervisor

import (
	"context"
	"fmt"
	"time"
)

// Event is one occurrence in a tree. Its types are those of this file and no others. Each has a
// [Header].
type Event interface {
	fmt.Stringer
	// Head returns the header.
	Head() Header
	isEvent()
}

// Header is in every event.
type Header struct {
	// Seq counts the events of one root, from 1, without gaps.
	Seq  uint64
	Time time.Time
	// Root is the root's name. Path is the full path of the child or supervisor that the event is
	// about, "" for the root.
	Root, Path string
	// Incarnation is the number of that child's incarnation, unique within the process; 0 if there
	// is none.
	Incarnation uint64
}

// Head returns the header itself.
func (h Header) Head() Header { return h }

// Subject returns the path, or for the root its name, "root" if it has none.
func (h Header) Subject() string {
	switch {
	case h.Path != "":
		return h.Path
	case h.Root != "":
		return h.Root
	default:
		return "root"
	}
}

type (
	// SupervisorStarted: all children of the supervisor acknowledged their start. A Dynamic has
	// DynamicKind and no strategy.
	SupervisorStarted struct {
		Header
		Kind      Kind
		Strategy  Strategy
		Intensity Intensity
	}
	// SupervisorStopped: all children have ended; Err is what Serve returns.
	SupervisorStopped struct {
		Header
		Err error
	}
	// ChildStarting: a start begins.
	ChildStarting struct{ Header }
	// ChildStarted: the start was acknowledged (OTP rule 79). Explicit means that a management call
	// started the child.
	ChildStarted struct {
		Header
		Explicit bool
		Took     time.Duration
	}
	// ChildStartFailed is OTP's report start_error. In a restart it is one more failed attempt.
	// Explicit means that a management call started the child; OTP does not report that, because
	// the caller gets the error.
	ChildStartFailed struct {
		Header
		Explicit bool
		Err      error
	}
	// ChildIgnored: the start returned ErrIgnore.
	ChildIgnored struct{ Header }
	// ChildExited: a child ended by itself. Reported is whether OTP would report it
	// (child_terminated, rule 36).
	ChildExited struct {
		Header
		Exit     Exit
		Restart  Restart
		Reported bool
	}
	// ChildStopped: a child ended because its supervisor stopped it. If the end was not quiet (OTP
	// rule 58), a ShutdownError follows.
	ChildStopped struct {
		Header
		Exit Exit
	}
	// ShutdownError is OTP's report shutdown_error: children did not end as they were told. A
	// Dynamic groups them by reason, so Count may exceed 1.
	ShutdownError struct {
		Header
		Exit  Exit
		Count int
	}
	// RestartScheduled: the child will be started again, after Delay. Attempt counts attempts in a
	// row. InWindow counts attempts within the intensity's period.
	RestartScheduled struct {
		Header
		Attempt  int
		InWindow int
		Delay    time.Duration
	}
	// GroupRestart: the listed children, in start order, are about to be stopped in reverse and
	// started again.
	GroupRestart struct {
		Header
		Strategy Strategy
		IDs      []string
	}
	// GaveUp: the supervisor gave up and stops (OTP's report shutdown, rule 45). The header is the
	// supervisor's; Err has the offender.
	GaveUp struct {
		Header
		Err *GiveUpError
	}
	// AutoShutdownTriggered: the supervisor stops because of its significant children (OTP rule
	// 66).
	AutoShutdownTriggered struct {
		Header
		Err *AutoShutdownError
	}
	// ChildOrphaned: an incarnation has not ended within its shutdown time.
	ChildOrphaned struct {
		Header
		Orphan Orphan
		Policy OrphanPolicy
	}
	// OrphanEnded: an orphan has ended after all.
	OrphanEnded struct {
		Header
		Exit  Exit
		After time.Duration
	}
	// Killed: Kill was called on the child. Reason Is ErrKilled.
	Killed struct {
		Header
		Reason error
	}
	// FaultInjected: the child took the fault.
	FaultInjected struct {
		Header
		Fault string
	}
	// Reloaded: new specifications are in force (OTP rule 81).
	Reloaded struct{ Header }
	// Warned: a setting of the tree is allowed but will surprise.
	Warned struct {
		Header
		Warning string
	}
	// EventsDropped: an observer was too slow and lost Count events. Only that observer gets this
	// event, in place of the lost ones. It has no Seq.
	EventsDropped struct {
		Header
		Count uint64
	}
	// ObserverFailed: an observer panicked and was detached.
	ObserverFailed struct {
		Header
		Err error
	}
)

func (SupervisorStarted) isEvent()     {}
func (SupervisorStopped) isEvent()     {}
func (ChildStarting) isEvent()         {}
func (ChildStarted) isEvent()          {}
func (ChildStartFailed) isEvent()      {}
func (ChildIgnored) isEvent()          {}
func (ChildExited) isEvent()           {}
func (ChildStopped) isEvent()          {}
func (ShutdownError) isEvent()         {}
func (RestartScheduled) isEvent()      {}
func (GroupRestart) isEvent()          {}
func (GaveUp) isEvent()                {}
func (AutoShutdownTriggered) isEvent() {}
func (ChildOrphaned) isEvent()         {}
func (OrphanEnded) isEvent()           {}
func (Killed) isEvent()                {}
func (FaultInjected) isEvent()         {}
func (Reloaded) isEvent()              {}
func (Warned) isEvent()                {}
func (EventsDropped) isEvent()         {}
func (ObserverFailed) isEvent()        {}

// StrategyName is OTP's name of the strategy; that of a Dynamic is simple_one_for_one.
func (e SupervisorStarted) StrategyName() string {
	if e.Kind == DynamicKind {
		return "simple_one_for_one"
	}
	return e.Strategy.String()
}

func (e SupervisorStarted) String() string {
	return fmt.Sprintf("%s: supervisor started, %s, %d in %v", e.Subject(), e.StrategyName(), e.Intensity.Max,
		e.Intensity.Period)
}

// AsTold reports whether the supervisor stopped only because it was told to, by Stop or by the
// supervisor above.
func (e SupervisorStopped) AsTold() bool {
	return e.Err == nil || safeIs(e.Err, context.Canceled) && safeIs(e.Err, ErrShutdown) && !safeIs(e.Err, ErrOrphan)
}

func (e SupervisorStopped) String() string {
	if e.AsTold() {
		return e.Subject() + ": supervisor stopped"
	}
	return fmt.Sprintf("%s: supervisor stopped: %v", e.Subject(), e.Err)
}

func (e ChildStarting) String() string { return e.Subject() + ": starting" }

func (e ChildStarted) String() string { return fmt.Sprintf("%s: started in %v", e.Subject(), e.Took) }

func (e ChildStartFailed) String() string {
	return fmt.Sprintf("%s: start failed: %v", e.Subject(), e.Err)
}

func (e ChildIgnored) String() string { return e.Subject() + ": start returned ErrIgnore" }

func (e ChildExited) String() string {
	return fmt.Sprintf("%s: %v child ended after %v: %v", e.Subject(), e.Restart, e.Exit.Duration, e.Exit)
}

func (e ChildStopped) String() string { return fmt.Sprintf("%s: stopped: %v", e.Subject(), e.Exit) }

func (e ShutdownError) String() string {
	if e.Count > 1 {
		return fmt.Sprintf("%s: %d children did not stop cleanly: %v", e.Subject(), e.Count, e.Exit)
	}
	return fmt.Sprintf("%s: did not stop cleanly: %v", e.Subject(), e.Exit)
}

func (e RestartScheduled) String() string {
	return fmt.Sprintf("%s: restarts after %v: attempt %d of this child, restart %d of its supervisor in the period",
		e.Subject(), e.Delay, e.Attempt, e.InWindow)
}

func (e GroupRestart) String() string {
	return fmt.Sprintf("%s: %v restart of %q", e.Subject(), e.Strategy, e.IDs)
}

func (e GaveUp) String() string { return fmt.Sprintf("%s: %v", e.Subject(), e.Err) }

func (e AutoShutdownTriggered) String() string { return fmt.Sprintf("%s: %v", e.Subject(), e.Err) }

func (e ChildOrphaned) String() string {
	return fmt.Sprintf("%s: orphaned: %d goroutines of incarnation %d still run; policy %v", e.Subject(),
		e.Orphan.Goroutines, e.Incarnation, e.Policy)
}

func (e OrphanEnded) String() string {
	return fmt.Sprintf("%s: orphan of incarnation %d ended %v late: %v", e.Subject(), e.Incarnation, e.After, e.Exit)
}

func (e Killed) String() string {
	if safeIs(e.Reason, ErrKilled) {
		return fmt.Sprintf("%s: %v", e.Subject(), e.Reason)
	}
	return fmt.Sprintf("%s: killed: %v", e.Subject(), e.Reason)
}

func (e FaultInjected) String() string { return fmt.Sprintf("%s: took fault %q", e.Subject(), e.Fault) }

func (e Reloaded) String() string { return e.Subject() + ": specifications reloaded" }

func (e Warned) String() string { return fmt.Sprintf("%s: warning: %s", e.Subject(), e.Warning) }

func (e EventsDropped) String() string {
	return fmt.Sprintf("%s: a slow observer lost %d events", e.Subject(), e.Count)
}

func (e ObserverFailed) String() string {
	return fmt.Sprintf("%s: observer detached: %v", e.Subject(), e.Err)
}

// Observer gets the events of a tree, one at a time and in order. It runs in a goroutine that is
// not the tree's, so it may be slow. An observer that lags by more than ObserverBacklog events
// loses the newest, and EventsDropped tells it how many. An observer that panics is detached. All
// of this holds for each place in a specification separately, over all runs of that supervisor
// within a tree. An observer that is given to several supervisors is called by each.
type Observer interface{ Observe(Event) }

// ObserverFunc is a function that is an Observer.
type ObserverFunc func(Event)

// Observe calls f.
func (f ObserverFunc) Observe(e Event) { f(e) }

// ObserverBacklog is the number of events that wait for an observer before the newest are dropped.
// HistorySize is the number of events that a root remembers.
const (
	ObserverBacklog = 1 << 14
	HistorySize     = 1 << 10
)
