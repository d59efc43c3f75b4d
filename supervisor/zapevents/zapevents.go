// Package zapevents writes the events of a supervision tree to a zap logger: as text for people,
// and as fields for programs. The fields are those of package slogevents.
package zapevents

import (
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/slogevents"
)

// New returns an observer that writes to log, with the time of the event. Levels and fields are
// those of slogevents.Describe.
func New(log *zap.Logger) supervisor.Observer { return observer{log} }

type observer struct{ log *zap.Logger }

var levels = map[slog.Level]zapcore.Level{slog.LevelDebug: zap.DebugLevel, slog.LevelInfo: zap.InfoLevel,
	slog.LevelWarn: zap.WarnLevel, slog.LevelError: zap.ErrorLevel}

// Observe writes one event.
func (o observer) Observe(e supervisor.Event) {
	level, attrs := slogevents.Describe(e)
	entry := o.log.Check(levels[level], e.String())
	if entry == nil {
		return
	}

	entry.Time = e.Head().Time
	fields := make([]zap.Field, len(attrs))
	for i, a := range attrs {
		fields[i] = zap.Any(a.Key, a.Value.Any())
	}

	entry.Write(fields...)
}
