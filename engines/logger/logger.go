// Package logger owns the event log of a node: every engine appends through it, and it publishes
// what has become durable.
//
// The log is truth, the bus is notification: append first, apply second, publish third. The file
// itself belongs to a lease outside the incarnation, so that a replaced logger can neither write
// nor keep its successor from opening it.
package logger

import (
	"context"
	"errors"
	"fmt"

	"github.com/thejerf/suture/v4"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/supervisor"
)

// Name is the logger's address.
const Name = "logger"

// Config is what the logger needs.
type Config struct {
	// Lease opens the log. Its bound is how long a revoked incarnation may keep an operation in
	// flight.
	Lease *supervisor.Lease[*eventlog.Log]

	// Publish, if set, is told of each entry that has become durable, in order, starting with the
	// first after this incarnation's start. The entry's data is only valid during the call. It must
	// not wait.
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

	// A replaced writer that still runs must not write what its successor has not read (I5).
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
	engines.OnCall(s, func(ctx context.Context, m appendSync, from engines.From[uint64]) error {
		return l.append(ctx, m, from.Answer)
	})

	engines.OnCall(s, func(ctx context.Context, m appendNoSync, from engines.From[uint64]) error {
		if err := l.writers.Admit(m.by); err != nil {
			from.Fail(err)
			return nil
		}

		var first uint64
		err := l.grant.Do(func(log *eventlog.Log) (err error) {
			first, err = log.AppendNoSync(ctx, m.recs...)
			return err
		})
		from.Answer(first, err)
		return fatal(err)
	})
	engines.OnCast(s, func(ctx context.Context, m appendThen) error { return l.append(ctx, m.appendSync, m.done) })
	engines.OnCall(s, func(ctx context.Context, m fence, from engines.From[uint64]) error {
		if err := l.writers.Admit(m.by); err != nil {
			from.Fail(err)
			return nil
		}

		var durable uint64
		err := l.grant.Do(func(log *eventlog.Log) error {
			err := log.Sync(ctx)
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

// append hands records to the group commit; done learns when they are durable.
func (l *logger) append(ctx context.Context, m appendSync, done func(uint64, error)) error {
	if err := l.writers.Admit(m.by); err != nil {
		done(0, err)
		return nil
	}

	self := l.self
	err := l.grant.Do(func(log *eventlog.Log) error {
		return log.AppendFunc(ctx, func(first uint64, err error) {
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

// fatal turns a failure of the log into an error that ends the process, because after a failed
// append a restart cannot help. A record that is too large is its sender's fault, and a fenced one
// is no loss; the log goes on.
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
