// Package zapevents writes the events of a supervision tree to a zap logger, in words a person can read and with fields a machine can.
package zapevents

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/coppice-go/coppice/supervisor"
)

// New makes an observer that writes to log. What went wrong is an error, what was done about it and what may surprise a warning, life as usual info; starts
// in progress and ends that nobody reports are debug.
func New(log *zap.Logger) supervisor.Observer { return observer{log} }

type observer struct{ log *zap.Logger }

// Observe writes one event.
func (o observer) Observe(e supervisor.Event) {
	level, fields := describe(e)
	entry := o.log.Check(level, e.String())
	if entry == nil {
		return
	}
	h := e.Head()
	entry.Time = h.Time
	fields = append(fields, zap.String("root", h.Root), zap.String("path", h.Path), zap.Uint64("seq", h.Seq))
	if h.Incarnation != 0 {
		fields = append(fields, zap.Uint64("incarnation", h.Incarnation))
	}
	entry.Write(fields...)
}

func describe(e supervisor.Event) (zapcore.Level, []zap.Field) {
	switch e := e.(type) {
	case supervisor.SupervisorStarted:
		return zap.InfoLevel, fields("supervisor_started", zap.String("strategy", e.StrategyName()), zap.Int("max_restarts", e.Intensity.Max), zap.Duration("period", e.Intensity.Period))
	case supervisor.SupervisorStopped:
		return zap.InfoLevel, fields("supervisor_stopped", zap.Error(e.Err))
	case supervisor.ChildStarting:
		return zap.DebugLevel, fields("child_starting")
	case supervisor.ChildStarted:
		level := zap.InfoLevel
		if e.Explicit {
			level = zap.DebugLevel // OTP rule 79
		}
		return level, fields("child_started", zap.Duration("took", e.Took), zap.Bool("explicit", e.Explicit))
	case supervisor.ChildStartFailed:
		return zap.ErrorLevel, fields("child_start_failed", zap.Error(e.Err))
	case supervisor.ChildIgnored:
		return zap.InfoLevel, fields("child_ignored")
	case supervisor.ChildExited:
		level := zap.DebugLevel
		if e.Reported {
			level = zap.ErrorLevel
		}
		if e.Reported && e.Exit.Class != supervisor.Abnormal {
			level = zap.WarnLevel
		}
		return level, append(exit("child_exited", e.Exit), zap.Stringer("restart", e.Restart))
	case supervisor.ChildStopped:
		return zap.DebugLevel, exit("child_stopped", e.Exit)
	case supervisor.ShutdownError:
		return zap.ErrorLevel, append(exit("shutdown_error", e.Exit), zap.Int("count", e.Count))
	case supervisor.RestartScheduled:
		return zap.WarnLevel, fields("restart_scheduled", zap.Int("attempt", e.Attempt), zap.Int("in_window", e.InWindow), zap.Duration("delay", e.Delay))
	case supervisor.GroupRestart:
		return zap.WarnLevel, fields("group_restart", zap.Stringer("strategy", e.Strategy), zap.Strings("children", e.IDs))
	case supervisor.GaveUp:
		return zap.ErrorLevel, append(exit("gave_up", e.Err.Exit), zap.String("offender", e.Err.Offender), zap.Error(e.Err))
	case supervisor.AutoShutdownTriggered:
		return zap.WarnLevel, append(exit("auto_shutdown", e.Err.Exit), zap.String("child", e.Err.Child))
	case supervisor.ChildOrphaned:
		return zap.ErrorLevel, fields("child_orphaned", zap.Int("goroutines", e.Orphan.Goroutines), zap.Stringer("policy", e.Policy), zap.String("stack", e.Orphan.Stack))
	case supervisor.OrphanEnded:
		return zap.WarnLevel, append(exit("orphan_ended", e.Exit), zap.Duration("late", e.After))
	case supervisor.Killed:
		return zap.WarnLevel, fields("killed", zap.NamedError("reason", e.Reason))
	case supervisor.FaultInjected:
		return zap.WarnLevel, fields("fault_injected", zap.String("fault", e.Fault))
	case supervisor.Reloaded:
		return zap.InfoLevel, fields("reloaded")
	case supervisor.Warned:
		return zap.WarnLevel, fields("warned")
	case supervisor.EventsDropped:
		return zap.WarnLevel, fields("events_dropped", zap.Uint64("count", e.Count))
	case supervisor.ObserverFailed:
		return zap.ErrorLevel, fields("observer_failed", zap.Error(e.Err))
	}
	return zap.InfoLevel, fields("unknown")
}

func fields(event string, more ...zap.Field) []zap.Field {
	return append([]zap.Field{zap.String("event", event)}, more...)
}

func exit(event string, e supervisor.Exit) []zap.Field {
	out := fields(event, zap.Stringer("class", e.Class), zap.Stringer("reason", e), zap.Duration("lived", e.Duration))
	if len(e.Stack) > 0 {
		out = append(out, zap.ByteString("stack", e.Stack))
	}
	return out
}
