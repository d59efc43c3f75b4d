package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// errInterrupted is the cause of the context that untilSignal ends.
var errInterrupted = errors.New("interrupted")

// lastWords is what a command still says when a second signal ends the process.
type lastWords struct{ say atomic.Pointer[func()] }

type lastWordsKey struct{}

// atForcedEnd has say called when a second signal ends the process, until undo is called. It is
// given a second to end.
func atForcedEnd(ctx context.Context, say func()) (undo func()) {
	w, ok := ctx.Value(lastWordsKey{}).(*lastWords)
	if !ok {
		return func() {}
	}
	w.say.Store(&say)
	return func() { w.say.Store(nil) }
}

func (w *lastWords) speak() {
	say := w.say.Load()
	if say == nil {
		return
	}

	said := make(chan struct{})
	go func() {
		defer close(said)
		(*say)()
	}()

	select {
	case <-said:
	case <-time.After(time.Second):
	}
}

// untilSignal returns a context that ends with the first SIGINT or SIGTERM, for an orderly end. A
// second one ends the process at once, with the code that shells give the signal: 130 for SIGINT,
// 143 for SIGTERM.
func untilSignal(parent context.Context) (ctx context.Context, stop func()) {
	words := new(lastWords)
	ctx, cancel := context.WithCancelCause(context.WithValue(parent, lastWordsKey{}, words))
	got := make(chan os.Signal, 2)
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case s := <-got:
				if n > 0 {
					fmt.Fprintf(os.Stderr, "coppice: second %v: leaving at once\n", s)
					words.speak()
					os.Exit(128 + int(s.(syscall.Signal)))
				}
				cancel(fmt.Errorf("%w: %v", errInterrupted, s))
			}
		}
	}()

	return ctx, func() {
		signal.Stop(got)
		close(done)
		cancel(nil)
	}
}
