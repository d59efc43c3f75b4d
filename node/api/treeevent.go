package api

import (
	"math"
	"reflect"

	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// treeKinds has one event of each kind that a stream carries. Lost events are reported by the
// message Dropped, so supervisor.EventsDropped is not one of them.
var treeKinds = []supervisor.Event{
	supervisor.SupervisorStarted{}, supervisor.SupervisorStopped{}, supervisor.ChildStarting{},
	supervisor.ChildStarted{},
	supervisor.ChildStartFailed{}, supervisor.ChildIgnored{}, supervisor.ChildExited{}, supervisor.ChildStopped{},
	supervisor.ShutdownError{}, supervisor.RestartScheduled{}, supervisor.GroupRestart{}, supervisor.GaveUp{},
	supervisor.AutoShutdownTriggered{}, supervisor.ChildOrphaned{}, supervisor.OrphanEnded{}, supervisor.Killed{},
	supervisor.FaultInjected{}, supervisor.Reloaded{}, supervisor.Warned{}, supervisor.ObserverFailed{},
}

// TreeKinds returns the names of the kinds of tree events.
func TreeKinds() []string {
	names := make([]string, len(treeKinds))
	for i, e := range treeKinds {
		names[i] = TreeKind(e)
	}
	return names
}

// TreeKind returns the name of an event's kind, for example "ChildExited".
func TreeKind(e supervisor.Event) string { return reflect.TypeOf(e).Name() }

// TreeEventOf returns a supervisor's event in its wire form.
func TreeEventOf(e supervisor.Event) *apiv1.TreeEvent {
	h := e.Head()
	class, reason := Reason(e)
	t := &apiv1.TreeEvent{
		Seq: h.Seq, Time: timestamp(h.Time), Kind: TreeKind(e), Path: h.Subject(), Incarnation: h.Incarnation,
		Class: class, Reason: reason, Text: e.String(),
	}

	if r, ok := e.(supervisor.RestartScheduled); ok {
		t.Attempt, t.InWindow = uint32(min(r.Attempt, math.MaxInt32)), uint32(clamp(r.InWindow))
		t.Delay = durationpb.New(r.Delay)
	}

	return t
}

var exitClasses = map[supervisor.Class]apiv1.ExitClass{
	supervisor.Normal:   apiv1.ExitClass_EXIT_CLASS_NORMAL,
	supervisor.Shutdown: apiv1.ExitClass_EXIT_CLASS_SHUTDOWN,
	supervisor.Abnormal: apiv1.ExitClass_EXIT_CLASS_ABNORMAL,
}

// Reason returns the reason that an event gives, if it gives one, and the class of the exit if the
// event is about an exit.
func Reason(e supervisor.Event) (class apiv1.ExitClass, reason string) {
	exit := func(x supervisor.Exit) (apiv1.ExitClass, string) { return exitClasses[x.Class], x.String() }
	because := func(err error) (apiv1.ExitClass, string) {
		if err == nil {
			return 0, ""
		}
		return 0, err.Error()
	}

	switch e := e.(type) {
	case supervisor.ChildExited:
		return exit(e.Exit)

	case supervisor.ChildStopped:
		return exit(e.Exit)

	case supervisor.ShutdownError:
		return exit(e.Exit)

	case supervisor.OrphanEnded:
		return exit(e.Exit)

	case supervisor.SupervisorStopped:
		return because(e.Err)

	case supervisor.ChildStartFailed:
		return because(e.Err)

	case supervisor.GaveUp:
		return 0, e.Err.Error()

	case supervisor.AutoShutdownTriggered:
		return 0, e.Err.Error()

	case supervisor.ChildOrphaned:
		return 0, "did not end within its shutdown time"

	case supervisor.Killed:
		return because(e.Reason)

	case supervisor.FaultInjected:
		return 0, e.Fault

	case supervisor.Warned:
		return 0, e.Warning

	case supervisor.ObserverFailed:
		return because(e.Err)
	}

	return 0, ""
}
