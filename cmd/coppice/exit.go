package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
)

// exitError is an error that says what the process ends with.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usageError is for a command line that is not understood.
func usageError(cmd *cobra.Command, format string, args ...any) error {
	return &exitError{exit.Usage, fmt.Errorf(format+"; see '%s --help'", append(args, cmd.CommandPath())...)}
}

// codeOf is the exit code for a command's error. The commands that open a home's log by themselves
// bring eventlog's errors.
func codeOf(err error) int {
	own := new(exitError)
	switch {
	case errors.As(err, &own):
		return own.code
	case errors.Is(err, eventlog.ErrLocked):
		return exit.HomeInUse
	case errors.Is(err, eventlog.ErrCorrupt):
		return exit.Damage
	}

	return exit.Code(err)
}

// fatal ends the process with an error after which a command can neither go on nor return: a state
// that it has open can not be closed.
func fatal(cmd *cobra.Command) func(error) {
	return func(err error) {
		fmt.Fprintln(cmd.ErrOrStderr(), "coppice:", err)
		os.Exit(codeOf(err))
	}
}
