// Package slogevents writes the events of a supervision tree to a log/slog logger: as text for
// people, and as attributes for programs. Besides package supervisor it needs only the standard
// library. Package zapevents writes the same to zap.
package slogevents

import (
	"context"
	"log/slog"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

// New returns an observer that writes to log, with the time of the event.
func New(log *slog.Logger) supervisor.Observer { return observer{log.Handler()} }

type observer struct{ handler slog.Handler }

// Observe writes one event.
func (o observer) Observe(e supervisor.Event) {
	level, attrs := Describe(e)
	if !o.handler.Enabled(context.Background(), level) {
		return
	}
	r := slog.NewRecord(e.Head().Time, level, e.String(), 0)
	r.AddAttrs(attrs...)
	_ = o.handler.Handle(context.Background(), r) // a log that cannot be written cannot report that
}

// Describe returns the level of an event and its attributes. The first attribute, "event", is the
// event's name. A failure has the level error. A reaction to a failure, and what may surprise, has
// the level warn. Normal operation is info. Starts in progress, and ends that are not reported, are
// debug.
func Describe(e supervisor.Event) (slog.Level, []slog.Attr) {
	level, attrs := describe(e)
	h := e.Head()
	attrs = append(attrs, slog.String("root", h.Root), slog.String("path", h.Path), slog.Uint64("seq", h.Seq))
	if h.Incarnation != 0 {
		attrs = append(attrs, slog.Uint64("incarnation", h.Incarnation))
	}
	return level, attrs
}

func describe(e supervisor.Event) (slog.Level, []slog.Attr) {
	switch e := e.(type) {
	case supervisor.SupervisorStarted:
		return slog.LevelInfo, event("supervisor_started",
			slog.String("strategy", e.StrategyName()), slog.Int("max_restarts", e.Intensity.Max),
			duration("period", e.Intensity.Period))

	case supervisor.SupervisorStopped:
		if e.AsTold() {
			return slog.LevelInfo, event("supervisor_stopped")
		}
		return slog.LevelInfo, event("supervisor_stopped", failure("error", e.Err)...)

	case supervisor.ChildStarting:
		return slog.LevelDebug, event("child_starting")

	case supervisor.ChildStarted:
		level := slog.LevelInfo
		if e.Explicit {
			level = slog.LevelDebug // OTP rule 79
		}
		return level, event("child_started", duration("took", e.Took), slog.Bool("explicit", e.Explicit))

	case supervisor.ChildStartFailed:
		return slog.LevelError, event("child_start_failed", failure("error", e.Err)...)

	case supervisor.ChildIgnored:
		return slog.LevelInfo, event("child_ignored")

	case supervisor.ChildExited:
		level := slog.LevelDebug
		if e.Reported {
			level = slog.LevelError
		}
		if e.Reported && e.Exit.Class != supervisor.Abnormal {
			level = slog.LevelWarn
		}
		return level, append(exit("child_exited", e.Exit), slog.String("restart", e.Restart.String()))

	case supervisor.ChildStopped:
		return slog.LevelDebug, exit("child_stopped", e.Exit)

	case supervisor.ShutdownError:
		return slog.LevelError, append(exit("shutdown_error", e.Exit), slog.Int("count", e.Count))

	case supervisor.RestartScheduled:
		return slog.LevelWarn, event("restart_scheduled", slog.Int("attempt", e.Attempt),
			slog.Int("in_window", e.InWindow), duration("delay", e.Delay))

	case supervisor.GroupRestart:
		return slog.LevelWarn, event("group_restart", slog.String("strategy", e.Strategy.String()),
			slog.Any("children", e.IDs))

	case supervisor.GaveUp:
		return slog.LevelError, append(exit("gave_up", e.Err.Exit), slog.String("offender", e.Err.Offender),
			slog.Any("error", error(e.Err)))

	case supervisor.AutoShutdownTriggered:
		return slog.LevelWarn, append(exit("auto_shutdown", e.Err.Exit), slog.String("child", e.Err.Child))

	case supervisor.ChildOrphaned:
		return slog.LevelError, event("child_orphaned",
			slog.Int("goroutines", e.Orphan.Goroutines), slog.String("policy", e.Policy.String()),
			slog.String("stack", e.Orphan.Stack))

	case supervisor.OrphanEnded:
		return slog.LevelWarn, append(exit("orphan_ended", e.Exit), duration("late", e.After))

	case supervisor.Killed:
		return slog.LevelWarn, event("killed", failure("reason", e.Reason)...)

	case supervisor.FaultInjected:
		return slog.LevelWarn, event("fault_injected", slog.String("fault", e.Fault))

	case supervisor.Reloaded:
		return slog.LevelInfo, event("reloaded")

	case supervisor.Warned:
		return slog.LevelWarn, event("warned")

	case supervisor.EventsDropped:
		return slog.LevelWarn, event("events_dropped", slog.Uint64("count", e.Count))

	case supervisor.ObserverFailed:
		return slog.LevelError, event("observer_failed", failure("error", e.Err)...)
	}
	return slog.LevelInfo, event("unknown")
}

func event(name string, more ...slog.Attr) []slog.Attr {
	return append([]slog.Attr{slog.String("event", name)}, more...)
}

// duration returns the attribute of a duration as text, because a number has no unit: handlers of
// JSON write nanoseconds, and zap writes seconds.
func duration(key string, d time.Duration) slog.Attr { return slog.String(key, d.String()) }

func failure(key string, err error) []slog.Attr {
	if err == nil {
		return nil
	}
	return []slog.Attr{slog.Any(key, err)}
}

func exit(name string, e supervisor.Exit) []slog.Attr {
	out := event(name, slog.String("class", e.Class.String()), slog.String("reason", e.String()),
		duration("lived", e.Duration))
	if len(e.Stack) > 0 {
		out = append(out, slog.String("stack", e.Stack.String()))
	}
	return out
}
