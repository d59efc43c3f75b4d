package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errInterrupted is the cause with which untilSignal ends its context.
var errInterrupted = errors.New("interrupted")

// lastWords holds what a command still prints when a second signal ends the process.
type lastWords struct{ say atomic.Pointer[func()] }

type lastWordsKey struct{}

// atForcedEnd arranges that say is called when a second signal ends the process, until undo is
// called. The process waits for say for at most a second.
func atForcedEnd(ctx context.Context, say func()) (undo func()) {
	w, ok := ctx.Value(lastWordsKey{}).(*lastWords)
	if !ok {
		return func() {}
	}

	w.say.Store(&say)

	return func() { w.say.Store(nil) }
}

// speak calls the function that atForcedEnd has set, if there is one, and waits for it for at most
// a second.
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

// untilSignal returns a context that the first SIGINT or SIGTERM ends, for an orderly end. A second
// signal ends the process at once, with the exit code that shells use for it: 130 for SIGINT, 143
// for SIGTERM.
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
					fmt.Fprintf(os.Stderr, "coppice: second %v: exiting at once\n", s)
					words.speak()
					os.Exit(128 + int(s.(syscall.Signal)))
				}
				cancel(fmt.Errorf("%w by %s", errInterrupted, unix.SignalName(s.(syscall.Signal))))
			}
		}
	}()

	return ctx, func() {
		signal.Stop(got)
		close(done)
		cancel(nil)
	}
}
