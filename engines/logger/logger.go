// Package logger is the engine that owns the event log of a node: every engine appends through it,
// and it publishes the records that have become durable.
//
// The log decides what is true, and the bus only notifies: a record is first appended, then
// applied, and then published. A lease outside the logger's incarnations holds the file, so that a
// replaced logger can neither write nor keep its successor from opening the log.
package logger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/thejerf/suture/v4"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/supervisor"
)

// Name is the logger's address.
const Name = "logger"

// Config configures the logger.
type Config struct {
	// Lease opens the log. Its bound limits how long an operation of a revoked incarnation may
	// still run.
	Lease *supervisor.Lease[*eventlog.Log]

	// Publish, if set, is called with each entry that has become durable, in order, starting with
	// the first after this incarnation's start. The entry's data is valid only during the call.
	// Publish must not wait.
	Publish func(eventlog.Entry)
}

// Child returns the logger's StartFunc.
func Child(dir engines.Directory, c Config) supervisor.StartFunc {
	return func(ctx context.Context) (supervisor.Service, error) {
		l := &logger{Config: c, writers: make(engines.Admission)}
		return engines.Spec{Name: Name, Mailbox: 4096, Init: l.init}.Start(dir)(ctx)
	}
}

type logger struct {
	Config
	grant *supervisor.Grant[*eventlog.Log]
	self  *engines.Server

	// writers refuses records from replaced incarnations. A replaced writer that still runs must
	// not append a record that its successor has not read (I5 in docs/architecture.md).
	writers engines.Admission
}

// The messages of the logger.
type (
	appendSync struct {
		by   engines.Sender
		recs []eventlog.Record
	}
	appendNoSync appendSync
	appendThen   struct {
		appendSync
		done func(first uint64, err error)
	}
	appendLater appendThen
	syncSoon    struct{}

	fence struct{ by engines.Sender }
	use   struct{}
	ended struct{ err error }
)

func (appendSync) Answer(uint64)   {}
func (appendNoSync) Answer(uint64) {}
func (fence) Answer(uint64)        {}
func (use) Answer(*grant)          {}

type grant = supervisor.Grant[*eventlog.Log]

func (l *logger) init(ctx context.Context, s *engines.Server) error {
	var err error
	if l.grant, err = l.Lease.Acquire(ctx); err != nil {
		return err
	}

	l.self = s
	// The log is written under the lifetime of the logger: an append that the deadline of its
	// caller cut short would look like a failure of the log.
	engines.OnCall(s, func(ctx context.Context, m appendSync, from engines.From[uint64]) error {
		return l.append(engines.Lifetime(ctx), m, from.Answer, (*eventlog.Log).AppendFunc)
	})

	engines.OnCall(s, func(ctx context.Context, m appendNoSync, from engines.From[uint64]) error {
		if err := l.writers.Admit(m.by); err != nil {
			from.Fail(err)
			return nil
		}

		var first uint64
		err := l.grant.Do(func(log *eventlog.Log) (err error) {
			first, err = log.AppendNoSync(engines.Lifetime(ctx), m.recs...)
			return err
		})
		from.Answer(first, err)
		return fatal(err)
	})
	engines.OnCast(s, func(ctx context.Context, m appendThen) error {
		return l.append(ctx, m.appendSync, m.done, (*eventlog.Log).AppendFunc)
	})
	engines.OnCast(s, func(ctx context.Context, m appendLater) error {
		return l.append(ctx, m.appendSync, m.done, (*eventlog.Log).AppendLater)
	})
	engines.OnCast(s, func(context.Context, syncSoon) error {
		return fatal(l.grant.Do(func(log *eventlog.Log) error { log.SyncSoon(); return nil }))
	})
	engines.OnCall(s, func(ctx context.Context, m fence, from engines.From[uint64]) error {
		if err := l.writers.Admit(m.by); err != nil {
			from.Fail(err)
			return nil
		}

		var durable uint64
		err := l.grant.Do(func(log *eventlog.Log) error {
			err := log.Sync(engines.Lifetime(ctx))
			durable = log.Durable()
			return err
		})
		from.Answer(durable, err)
		return fatal(err)
	})

	engines.OnCall(s, func(_ context.Context, _ use, from engines.From[*grant]) error {
		from.Reply(l.grant)
		return nil
	})
	engines.OnCast(s, func(_ context.Context, m ended) error { return m.err })
	if err := supervisor.Go(ctx, l.checkRest); err != nil {
		return err
	}
	if l.Publish == nil {
		return nil
	}

	var tail *eventlog.Cursor
	if err := l.grant.Do(func(log *eventlog.Log) (err error) {
		tail, err = log.Cursor(log.Durable() + 1)
		return err
	}); err != nil {
		return err
	}

	return supervisor.Go(ctx, func(ctx context.Context) error { return l.publish(ctx, tail) })
}

// appendFunc is a method of the log that appends and does not wait.
type appendFunc func(log *eventlog.Log, ctx context.Context, done func(uint64, error), recs ...eventlog.Record) error

// append hands records to the log with add. The log syncs several appends at once. done is called
// when they are durable, or with the error.
func (l *logger) append(ctx context.Context, m appendSync, done func(uint64, error), add appendFunc) error {
	if err := l.writers.Admit(m.by); err != nil {
		done(0, err)
		return nil
	}

	self := l.self
	err := l.grant.Do(func(log *eventlog.Log) error {
		return add(log, ctx, func(first uint64, err error) {
			done(first, err)
			if err != nil {
				self.Post(ended{fatal(err)})
			}
		}, m.recs...)
	})

	if err != nil {
		done(0, err)
	}

	return fatal(err)
}

// restAfter is how long the check of the old segments leaves the processors to the recovery of the
// node.
const restAfter = 2 * time.Second

// checkRest checks the segments that the open of the log has trusted, so that damage in them ends
// the process even if nothing reads them.
func (l *logger) checkRest(ctx context.Context) error {
	late := time.NewTimer(restAfter)
	defer late.Stop()

	select {
	case <-late.C:
	case <-ctx.Done():
		return nil
	}

	err := l.grant.Do(func(log *eventlog.Log) error { return log.CheckRest(ctx) })
	if ctx.Err() != nil {
		return nil
	}

	return fatal(err)
}

func (l *logger) publish(ctx context.Context, tail *eventlog.Cursor) error {
	defer tail.Close()
	for {
		e, err := tail.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fatal(err)
		}
		l.Publish(e)
	}
}

// fatal returns the error that a failure of the log ends the process with, because after a failed
// append a restart cannot help. It returns nil for the errors that leave the log as it is: a record
// that is too large is its sender's fault, and a fenced or cancelled call writes no record.
func fatal(err error) error {
	for _, harmless := range []error{eventlog.ErrTooLarge, supervisor.ErrFenced, context.Canceled} {
		if errors.Is(err, harmless) {
			return nil
		}
	}

	if err == nil {
		return nil
	}
	return fmt.Errorf("event log: %w: %w", err, suture.ErrTerminateSupervisorTree)
}
