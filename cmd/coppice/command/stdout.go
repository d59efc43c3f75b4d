package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
)

// stdout is the standard output of every command. It keeps its first error, so that no command can
// succeed after it lost output, whether or not it looks at the errors of its writes.
type stdout struct {
	file *os.File

	mu     sync.Mutex
	wrote  bool                    // something was written
	lost   *lostOutputError        // of the first write that failed
	cancel context.CancelCauseFunc // ends the command at the first error; nil: the command goes on
}

// lostOutputError is the error of a command whose output did not reach standard output. It does not
// unwrap, because the error of a write says nothing of the node or its home.
type lostOutputError struct {
	err     error
	written bool // a part of the output was written
}

// Error implements error.
func (e *lostOutputError) Error() string {
	what := "the output is lost"
	if e.written {
		what = "the output is incomplete"
	}

	err := e.err
	if in := new(os.PathError); errors.As(err, &in) {
		err = in.Err
	}

	return fmt.Sprintf("cannot write to standard output: %v; %s: make room, or write it elsewhere", err, what)
}

// Write implements io.Writer.
func (s *stdout) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.lost != nil {
		return 0, s.lost
	}

	n, err := s.file.Write(p)
	s.wrote = s.wrote || n > 0

	if err != nil {
		s.lost = &lostOutputError{err, s.wrote}
		if s.cancel != nil {
			s.cancel(s.lost)
		}
		return n, s.lost
	}

	return n, nil
}

// terminal reports whether standard output is a terminal.
func (s *stdout) terminal() bool { return terminal(s.file) }

// empty reports whether nothing was written.
func (s *stdout) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.wrote && s.lost == nil
}

// finish closes standard output, because some file systems report only then that a write failed. It
// returns the error of the command, which is err unless output was lost.
func (s *stdout) finish(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.lost == nil {
		if closed := s.file.Close(); closed != nil {
			s.lost = &lostOutputError{closed, true}
		}
	}

	switch {
	case s.lost == nil:
		return err
	case err == nil || errors.As(err, new(*lostOutputError)) || errors.Is(err, context.Canceled):
		return s.lost
	}

	return errors.Join(err, s.lost)
}

// dieOfBrokenPipe ends the process by SIGPIPE if the reader of standard output has gone, as
// programs do by default. Shells do not report that.
func (s *stdout) dieOfBrokenPipe() {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.lost == nil || !errors.Is(s.lost.err, syscall.EPIPE) {
		return
	}

	signal.Reset(syscall.SIGPIPE)
	_, _ = s.file.WriteString("\n") // the runtime ends the process by the signal
}

// catchBrokenPipe makes a write to a pipe without a reader an error. By default, it ends a Go
// process at once, which is too soon for a command that has to stop a node or to remove files.
func catchBrokenPipe() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// surviveLostOutput makes the command go on when its output is lost, and report that at once. It is
// for commands that run a node, which is worth more than a line of output.
func surviveLostOutput(cmd *cobra.Command) {
	s, ok := cmd.OutOrStdout().(*stdout)
	if !ok {
		return
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel = func(err error) { fmt.Fprintln(cmd.ErrOrStderr(), "coppice:", err) }
}
