package slogevents_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/slogevents"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// here returns a stack as a panic in this function has it.
func here() supervisor.Stack {
	pcs := make([]uintptr, 8)
	return pcs[:runtime.Callers(1, pcs)]
}

func TestEveryEventIsWritten(t *testing.T) {
	crash := supervisor.Exit{Class: supervisor.Abnormal, Err: errors.New("crash"), Stack: here(),
		Duration: time.Minute}
	h := supervisor.Header{Seq: 7, Time: time.Unix(1, 2).UTC(), Root: "root", Path: "a/b", Incarnation: 9}
	for _, c := range []struct {
		event supervisor.Event
		level string
		name  string
		with  map[string]any
	}{
		{supervisor.SupervisorStarted{Header: h, Strategy: supervisor.OneForAll}, "INFO", "supervisor_started",
			map[string]any{"strategy": "one_for_all", "max_restarts": 0.0, "period": "0s"}},
		{supervisor.SupervisorStarted{Header: h, Kind: supervisor.DynamicKind}, "INFO", "supervisor_started",
			map[string]any{"strategy": "simple_one_for_one"}},
		{supervisor.SupervisorStopped{Header: h, Err: crash.Err}, "INFO", "supervisor_stopped",
			map[string]any{"error": "crash"}},
		{supervisor.SupervisorStopped{Header: h}, "INFO", "supervisor_stopped", map[string]any{"error": nil}},
		{supervisor.SupervisorStopped{Header: h, Err: fmt.Errorf("%w: %w", context.Canceled, supervisor.ErrShutdown)},
			"INFO", "supervisor_stopped", map[string]any{"msg": "a/b: supervisor stopped", "error": nil}},
		{supervisor.SupervisorStopped{Header: h, Err: fmt.Errorf("%w: %w", context.Canceled, crash.Err)}, "INFO",
			"supervisor_stopped", map[string]any{"error": "context canceled: crash"}},
		{supervisor.ChildStarting{Header: h}, "DEBUG", "child_starting", nil},
		{supervisor.ChildStarted{Header: h, Took: time.Second}, "INFO", "child_started", map[string]any{"took": "1s"}},
		{supervisor.ChildStarted{Header: h, Explicit: true}, "DEBUG", "child_started",
			map[string]any{"explicit": true}},
		{supervisor.ChildStartFailed{Header: h, Err: crash.Err}, "ERROR", "child_start_failed",
			map[string]any{"error": "crash"}},
		{supervisor.ChildIgnored{Header: h}, "INFO", "child_ignored", nil},
		{supervisor.ChildExited{Header: h, Exit: crash, Reported: true}, "ERROR", "child_exited",
			map[string]any{"class": "abnormal", "reason": "crash", "stack": crash.Stack.String(),
				"restart": "permanent", "lived": "1m0s"}},
		{supervisor.ChildExited{Header: h, Reported: true}, "WARN", "child_exited", map[string]any{"class": "normal"}},
		{supervisor.ChildExited{Header: h}, "DEBUG", "child_exited", map[string]any{"stack": nil}},
		{supervisor.ChildStopped{Header: h}, "DEBUG", "child_stopped", nil},
		{supervisor.ShutdownError{Header: h, Exit: crash, Count: 3}, "ERROR", "shutdown_error",
			map[string]any{"count": 3.0}},
		{supervisor.RestartScheduled{Header: h, Attempt: 2, InWindow: 1, Delay: time.Second}, "WARN",
			"restart_scheduled", map[string]any{"attempt": 2.0, "in_window": 1.0, "delay": "1s"}},
		{supervisor.GroupRestart{Header: h, Strategy: supervisor.RestForOne, IDs: []string{"x"}}, "WARN",
			"group_restart", map[string]any{"children": []any{"x"}, "strategy": "rest_for_one"}},
		{supervisor.GaveUp{Header: h, Err: &supervisor.GiveUpError{Offender: "a/b/c", Cause: supervisor.ErrOrphan,
			Exit: crash}}, "ERROR", "gave_up", map[string]any{
			"offender": "a/b/c", "error": "supervisor gave up: a/b/c did not end within its shutdown time: crash"}},
		{supervisor.AutoShutdownTriggered{Header: h, Err: &supervisor.AutoShutdownError{Child: "a/b/c"}}, "WARN",
			"auto_shutdown", map[string]any{"child": "a/b/c"}},
		{supervisor.ChildOrphaned{Header: h, Orphan: supervisor.Orphan{Goroutines: 2, Stack: "here"}}, "ERROR",
			"child_orphaned", map[string]any{"goroutines": 2.0, "stack": "here", "policy": "escalate"}},
		{supervisor.OrphanEnded{Header: h, After: time.Second}, "WARN", "orphan_ended", map[string]any{"late": "1s"}},
		{supervisor.Killed{Header: h, Reason: crash.Err}, "WARN", "killed", map[string]any{"reason": "crash"}},
		{supervisor.FaultInjected{Header: h, Fault: "f"}, "WARN", "fault_injected", map[string]any{"fault": "f"}},
		{supervisor.Reloaded{Header: h}, "INFO", "reloaded", nil},
		{supervisor.Warned{Header: h, Warning: "w"}, "WARN", "warned", nil},
		{supervisor.EventsDropped{Header: h, Count: 4}, "WARN", "events_dropped", map[string]any{"count": 4.0}},
		{supervisor.ObserverFailed{Header: h, Err: crash.Err}, "ERROR", "observer_failed",
			map[string]any{"error": "crash"}},
	} {
		var out bytes.Buffer
		slogevents.New(slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))).
			Observe(c.event)
		var got map[string]any
		require.NoError(t, json.Unmarshal(out.Bytes(), &got), "%s", out.String())
		want := map[string]any{"level": c.level, "msg": c.event.String(), "time": "1970-01-01T00:00:01.000000002Z",
			"event": c.name, "path": "a/b", "root": "root", "incarnation": 9.0, "seq": 7.0}

		for k, v := range c.with {
			want[k] = v
		}

		for k, v := range want {
			require.Equal(t, v, got[k], "%s: %s", c.name, k)
		}
	}

	var out bytes.Buffer
	slogevents.New(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError}))).Observe(
		supervisor.Reloaded{})
	require.Zero(t, out.Len(), "below the level")
	_, attrs := slogevents.Describe(supervisor.Reloaded{})
	require.Len(t, attrs, 4, "no incarnation, no attribute")
}

func Example() {
	// Without times, so that the output is the same every time.
	log := slog.New(slog.NewTextHandler(os.Stdout,
		&slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			switch a.Key {
			case slog.TimeKey, "took", "incarnation", "lived":
				return slog.Attr{}
			}
			return a
		}}))

	s, err := supervisor.New(supervisor.Spec{
		Name: "shop", Observers: []supervisor.Observer{slogevents.New(log)},
		Build: supervisor.Children(supervisor.Child{ID: "till",
			Start: func(context.Context) (supervisor.Service, error) {
				return nil, errors.New("drawer is stuck")
			}}),
	})

	if err != nil {
		panic(err)
	}

	_ = s.Serve(context.Background())
	// Output:
	// level=ERROR msg="till: start failed: drawer is stuck" event=child_start_failed error="drawer is stuck" root=shop path=till seq=2
	// level=INFO msg="shop: supervisor stopped: child \"till\" failed to start: drawer is stuck" event=supervisor_stopped error="child \"till\" failed to start: drawer is stuck" root=shop path="" seq=3
}
