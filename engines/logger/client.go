package logger

import (
	"context"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/eventlog"
)

// Client is the logger as other engines see it. The zero value is not usable; it is safe for
// concurrent use.
type Client struct{ to engines.Address }

// NewClient returns a client of the logger in dir.
func NewClient(dir engines.Directory) Client {
	return Client{engines.NewAddress(dir, Name)}
}

// Append adds the records, contiguous and all or none. When they are durable it returns the index
// of the first. After an error of class engines.ErrDown they may be in the log or not.
func (c Client) Append(ctx context.Context, recs ...eventlog.Record) (first uint64, err error) {
	return engines.Call(ctx, c.to, appendSync{engines.SenderOf(ctx), recs})
}

// AppendNoSync adds the records and does not wait for them to be durable. The next Append of any
// caller covers them.
func (c Client) AppendNoSync(ctx context.Context, recs ...eventlog.Record) (first uint64, err error) {
	return engines.Call(ctx, c.to, appendNoSync{engines.SenderOf(ctx), recs})
}

// AppendThen adds the records and calls done from another goroutine once they are durable, in index
// order. done must not wait. It is not called when the logger ends first.
func (c Client) AppendThen(ctx context.Context, done func(first uint64, err error), recs ...eventlog.Record) error {
	return engines.Cast(ctx, c.to, appendThen{appendSync{engines.SenderOf(ctx), recs}, done})
}

// Fence shuts older incarnations of the caller out and returns the last durable index, with
// everything that they appended at or below it.
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

// First returns the index of the oldest record that is still there.
func (c Client) First(ctx context.Context) (first uint64, err error) {
	err = c.do(ctx, func(l *eventlog.Log) error { first = l.First(); return nil })
	return first, err
}

// Retain keeps the records from floor on from being truncated, under a name.
func (c Client) Retain(ctx context.Context, name string, floor uint64) (r *eventlog.Retainer, err error) {
	err = c.do(ctx, func(l *eventlog.Log) error { r = l.Retain(name, floor); return nil })
	return r, err
}

// Stat returns a picture of the log.
func (c Client) Stat(ctx context.Context) (s eventlog.Stat, err error) {
	err = c.do(ctx, func(l *eventlog.Log) error { s = l.Stat(); return nil })
	return s, err
}

// Use runs f on the open log, in the caller's goroutine. f must not keep it. A replaced
// incarnation waits for f, so f must be short.
func (c Client) Use(ctx context.Context, f func(*eventlog.Log) error) error { return c.do(ctx, f) }

func (c Client) do(ctx context.Context, f func(*eventlog.Log) error) error {
	g, err := engines.Call(ctx, c.to, use{})
	if err != nil {
		return err
	}
	return g.Do(f)
}
