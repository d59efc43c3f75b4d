package engines

import (
	"context"
	"fmt"
)

type (
	callerKey   struct{} // the *Mailbox of the engine that a context belongs to
	lifetimeKey struct{} // the context of its incarnation, if the context is that of one call
)

// errDeadline is the cause of the end of a handler's context that ended by its caller's deadline.
var errDeadline = fmt.Errorf("the caller's deadline has passed: %w", context.DeadlineExceeded)

// withCaller returns the context of an incarnation, whose waits belong to m.
func withCaller(ctx context.Context, m *Mailbox) context.Context {
	return context.WithValue(ctx, callerKey{}, m)
}

// callerOf returns the mailbox of the engine that ctx belongs to, or nil.
func callerOf(ctx context.Context) *Mailbox {
	m, _ := ctx.Value(callerKey{}).(*Mailbox)
	return m
}

func withLifetime(ctx context.Context) context.Context {
	return context.WithValue(ctx, lifetimeKey{}, ctx)
}

// Lifetime returns the context of the incarnation whose handler got ctx. Unlike ctx, it does not
// end by the deadline of the call that is being handled, nor by one that was added to ctx since. A
// handler uses it for a step that must not stop half-way, and for work that goes on after the call.
// For any other ctx, Lifetime returns ctx.
func Lifetime(ctx context.Context) context.Context {
	if own, ok := ctx.Value(lifetimeKey{}).(context.Context); ok {
		return own
	}
	return ctx
}
