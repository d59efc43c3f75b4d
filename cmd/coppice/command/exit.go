package command

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
)

// exitError is an error with the exit code of the process.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usageError returns the error for an invalid command line.
func usageError(cmd *cobra.Command, format string, args ...any) error {
	return &exitError{exit.Usage, fmt.Errorf(format+"; see '%s --help'", append(args, cmd.CommandPath())...)}
}

// codeOf returns the exit code for a command's error. Commands that open the log of a home
// themselves return errors of package eventlog.
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

// fatal returns a function that prints an error and ends the process. It is for errors after which
// a command can neither go on nor return, because it cannot close a state that it has open.
func fatal(cmd *cobra.Command) func(error) {
	return func(err error) {
		fmt.Fprintln(cmd.ErrOrStderr(), "coppice:", err)
		os.Exit(codeOf(err))
	}
}
