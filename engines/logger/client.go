package logger

import (
	"context"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/eventlog"
)

// Client is how other engines call the logger. It is safe for concurrent use. Make it with
// NewClient: the zero value cannot be used.
type Client struct{ to engines.Address }

// NewClient returns a client of the logger in dir.
func NewClient(dir engines.Directory) Client {
	return Client{engines.NewAddress(dir, Name)}
}

// Append adds all the records, one after the other, or none of them. When they are durable it
// returns the index of the first. After an error of class engines.ErrDown they may be in the log or
// not.
func (c Client) Append(ctx context.Context, recs ...eventlog.Record) (first uint64, err error) {
	return engines.Call(ctx, c.to, appendSync{engines.SenderOf(ctx), recs})
}

// AppendNoSync adds the records and returns the index of the first. It does not wait for them to be
// durable. They are durable when the next Append of any caller has returned.
func (c Client) AppendNoSync(ctx context.Context, recs ...eventlog.Record) (first uint64, err error) {
	return engines.Call(ctx, c.to, appendNoSync{engines.SenderOf(ctx), recs})
}

// AppendThen adds the records and does not wait. Once they are durable, or have failed, done is
// called from another goroutine; calls of done come in the order of the records. done must not
// wait. It is not called if the logger ends first.
func (c Client) AppendThen(ctx context.Context, done func(first uint64, err error), recs ...eventlog.Record) error {
	return engines.Cast(ctx, c.to, appendThen{appendSync{engines.SenderOf(ctx), recs}, done})
}

// AppendLater is AppendThen without a sync: the records become durable with the next record or call
// that asks for one (Append, AppendThen, SyncSoon, Fence).
func (c Client) AppendLater(ctx context.Context, done func(first uint64, err error), recs ...eventlog.Record) error {
	return engines.Cast(ctx, c.to, appendLater{appendSync{engines.SenderOf(ctx), recs}, done})
}

// SyncSoon asks for a sync of what was appended before, and does not wait for it.
func (c Client) SyncSoon(ctx context.Context) error {
	return engines.Cast(ctx, c.to, syncSoon{})
}

// Fence makes the logger refuse records from older incarnations of the caller, and returns the last
// durable index. All records that those incarnations appended are at or below it.
func (c Client) Fence(ctx context.Context) (durable uint64, err error) {
	return engines.Call(ctx, c.to, fence{engines.SenderOf(ctx)})
}

// Cursor returns a reader of durable records from the index on. It ends with the logger's
// incarnation.
func (c Client) Cursor(ctx context.Context, from uint64) (cur *eventlog.Cursor, err error) {
	err = c.do(ctx, func(l *eventlog.Log) error {
		cur, err = l.Cursor(from)
		return err
	})
	return cur, err
}

// First returns the index of the oldest record that the log still has.
func (c Client) First(ctx context.Context) (first uint64, err error) {
	err = c.do(ctx, func(l *eventlog.Log) error { first = l.First(); return nil })
	return first, err
}

// Retain registers a retainer with the given name, which keeps the records from floor on from being
// truncated.
func (c Client) Retain(ctx context.Context, name string, floor uint64) (r *eventlog.Retainer, err error) {
	err = c.do(ctx, func(l *eventlog.Log) error { r = l.Retain(name, floor); return nil })
	return r, err
}

// Stat returns the present figures of the log.
func (c Client) Stat(ctx context.Context) (s eventlog.Stat, err error) {
	err = c.do(ctx, func(l *eventlog.Log) error { s = l.Stat(); return nil })
	return s, err
}

// Use runs f on the open log, in the caller's goroutine. f must not keep the log. The end of a
// replaced incarnation waits for f, so f must be short.
func (c Client) Use(ctx context.Context, f func(*eventlog.Log) error) error { return c.do(ctx, f) }

func (c Client) do(ctx context.Context, f func(*eventlog.Log) error) error {
	g, err := engines.Call(ctx, c.to, use{})
	if err != nil {
		return err
	}
	return g.Do(f)
}
