package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// errInterrupted is the cause of the context that untilSignal ends.
var errInterrupted = errors.New("interrupted")

// untilSignal returns a context that ends with the first SIGINT or SIGTERM, for an orderly end. A second one ends the process
// at once, with the code that shells give the signal.
func untilSignal(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
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
