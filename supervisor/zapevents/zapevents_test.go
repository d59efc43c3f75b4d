package zapevents_test

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/zapevents"
)

// here returns a stack as a panic in this function has it.
func here() supervisor.Stack {
	pcs := make([]uintptr, 8)
	return pcs[:runtime.Callers(1, pcs)]
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEveryEventIsWritten(t *testing.T) {
	crash := supervisor.Exit{Class: supervisor.Abnormal, Err: errors.New("crash"), Stack: here()}
	h := supervisor.Header{Seq: 7, Time: time.Unix(1, 2), Root: "root", Path: "a/b", Incarnation: 9}
	for _, c := range []struct {
		event supervisor.Event
		level zapcore.Level
		name  string
		with  map[string]any
	}{
		{supervisor.SupervisorStarted{Header: h, Strategy: supervisor.OneForAll}, zap.InfoLevel, "supervisor_started",
			map[string]any{"strategy": "one_for_all"}},
		{supervisor.SupervisorStarted{Header: h, Kind: supervisor.DynamicKind}, zap.InfoLevel, "supervisor_started",
			map[string]any{"strategy": "simple_one_for_one"}},
		{supervisor.SupervisorStopped{Header: h, Err: crash.Err}, zap.InfoLevel, "supervisor_stopped",
			map[string]any{"error": "crash"}},
		{supervisor.ChildStarting{Header: h}, zap.DebugLevel, "child_starting", nil},
		{supervisor.ChildStarted{Header: h}, zap.InfoLevel, "child_started", nil},
		{supervisor.ChildStarted{Header: h, Explicit: true}, zap.DebugLevel, "child_started",
			map[string]any{"explicit": true}},
		{supervisor.ChildStartFailed{Header: h, Err: crash.Err}, zap.ErrorLevel, "child_start_failed",
			map[string]any{"error": "crash"}},
		{supervisor.ChildIgnored{Header: h}, zap.InfoLevel, "child_ignored", nil},
		{supervisor.ChildExited{Header: h, Exit: crash, Reported: true}, zap.ErrorLevel, "child_exited",
			map[string]any{"class": "abnormal", "reason": "crash", "stack": crash.Stack.String(),
				"restart": "permanent"}},
		{supervisor.ChildExited{Header: h, Reported: true}, zap.WarnLevel, "child_exited",
			map[string]any{"class": "normal"}},
		{supervisor.ChildExited{Header: h}, zap.DebugLevel, "child_exited", nil},
		{supervisor.ChildStopped{Header: h}, zap.DebugLevel, "child_stopped", nil},
		{supervisor.ShutdownError{Header: h, Exit: crash, Count: 3}, zap.ErrorLevel, "shutdown_error",
			map[string]any{"count": int64(3)}},
		{supervisor.RestartScheduled{Header: h, Attempt: 2}, zap.WarnLevel, "restart_scheduled",
			map[string]any{"attempt": int64(2)}},
		{supervisor.GroupRestart{Header: h, IDs: []string{"x"}}, zap.WarnLevel, "group_restart",
			map[string]any{"children": []any{"x"}}},
		{supervisor.GaveUp{Header: h, Err: &supervisor.GiveUpError{Offender: "a/b/c", Cause: supervisor.ErrOrphan,
			Exit: crash}}, zap.ErrorLevel, "gave_up", map[string]any{"offender": "a/b/c"}},
		{supervisor.AutoShutdownTriggered{Header: h, Err: &supervisor.AutoShutdownError{Child: "a/b/c"}}, zap.WarnLevel,
			"auto_shutdown", map[string]any{"child": "a/b/c"}},
		{supervisor.ChildOrphaned{Header: h, Orphan: supervisor.Orphan{Goroutines: 2, Stack: "here"}}, zap.ErrorLevel,
			"child_orphaned", map[string]any{"goroutines": int64(2), "stack": "here", "policy": "escalate"}},
		{supervisor.OrphanEnded{Header: h, After: time.Second}, zap.WarnLevel, "orphan_ended",
			map[string]any{"late": "1s"}},
		{supervisor.Killed{Header: h, Reason: crash.Err}, zap.WarnLevel, "killed", map[string]any{"reason": "crash"}},
		{supervisor.FaultInjected{Header: h, Fault: "f"}, zap.WarnLevel, "fault_injected",
			map[string]any{"fault": "f"}},
		{supervisor.Reloaded{Header: h}, zap.InfoLevel, "reloaded", nil},
		{supervisor.Warned{Header: h, Warning: "w"}, zap.WarnLevel, "warned", nil},
		{supervisor.EventsDropped{Header: h, Count: 4}, zap.WarnLevel, "events_dropped",
			map[string]any{"count": uint64(4)}},
		{supervisor.ObserverFailed{Header: h, Err: crash.Err}, zap.ErrorLevel, "observer_failed", nil},
	} {
		core, logs := observer.New(zap.DebugLevel)
		zapevents.New(zap.New(core)).Observe(c.event)
		require.Equal(t, 1, logs.Len(), c.name)
		entry := logs.All()[0]
		require.Equal(t, c.level, entry.Level, c.name)
		require.Equal(t, c.event.String(), entry.Message)
		require.Equal(t, h.Time, entry.Time)
		got := entry.ContextMap()
		require.Equal(t, c.name, got["event"])
		require.Equal(t, "a/b", got["path"])
		require.Equal(t, "root", got["root"])
		require.Equal(t, uint64(9), got["incarnation"])
		require.Equal(t, uint64(7), got["seq"])
		for k, v := range c.with {
			require.Equal(t, v, got[k], "%s: %s", c.name, k)
		}
	}

	core, logs := observer.New(zap.ErrorLevel)
	zapevents.New(zap.New(core)).Observe(supervisor.Reloaded{})
	require.Zero(t, logs.Len())
}
