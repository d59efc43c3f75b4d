package process

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/coppice-go/coppice/supervisor"
)

// complete checks the spec and fills in the defaults.
func (s Spec) complete() (Spec, error) {
	s.Name = s.name()
	wrong := func(format string, args ...any) (Spec, error) {
		return Spec{}, fmt.Errorf("%w: process %q: %s", supervisor.ErrSpec, s.Name, fmt.Sprintf(format, args...))
	}

	switch {
	case s.Path == "":
		return wrong("Path is empty; expected a program")

	case s.MaxLine < 0 || s.MaxLine > 0 && s.MaxLine < 16:
		return wrong("MaxLine is %d; expected at least 16 bytes, or 0 for %d", s.MaxLine, DefaultMaxLine)

	case s.ReadyTimeout < 0:
		return wrong("ReadyTimeout is %v; expected a positive time, or 0 for %v", s.ReadyTimeout, DefaultReadyTimeout)

	case s.Grace < 0 && s.Grace != supervisor.Brutal:
		return wrong("Grace is %v; expected a positive time, Brutal, or 0 for %v", s.Grace, DefaultGrace)

	case s.TermSignal < 0:
		return wrong("TermSignal is %d; expected a signal, or 0 for SIGTERM", s.TermSignal)

	case s.ExitZero > ExitZeroAbnormal:
		return wrong("ExitZero is %v; expected normal or abnormal", s.ExitZero)

	case s.Ready.wrong != nil:
		return wrong("Ready: %v", s.Ready.wrong)

	case s.Guard && !isUnix:
		return wrong("Guard is set; it needs a Unix")
	}

	if field, expected := s.badOption(); field != "" {
		return wrong("%s; expected %s", field, expected)
	}

	s.Grace = orDefault(s.Grace, DefaultGrace)
	s.ReadyTimeout = orDefault(s.ReadyTimeout, DefaultReadyTimeout)
	if s.MaxLine == 0 {
		s.MaxLine = DefaultMaxLine
	}
	if s.TermSignal == 0 {
		s.TermSignal = syscall.SIGTERM
	}
	if s.Grace == supervisor.Brutal {
		s.TermSignal = syscall.SIGKILL
	}

	return s, nil
}

// badOption returns what is wrong with the fields that say how the process is executed, and what
// was expected. It returns "" if nothing is.
func (s Spec) badOption() (wrong, expected string) {
	if unix := s.unixOnly(); unix != "" && !isUnix {
		return unix + " is set", "none on this system, because it needs a Unix"
	}

	for _, socket := range s.Sockets {
		if socket.File == nil {
			return fmt.Sprintf("Sockets has a nil File (Name %q)", socket.Name), "an open socket"
		}
		if strings.ContainsAny(socket.Name, ":\n") {
			return fmt.Sprintf("Sockets has the Name %q", socket.Name), "a name without a colon"
		}
	}

	for _, f := range s.ExtraFiles {
		if f == nil {
			return "ExtraFiles has a nil file", "open files"
		}
	}

	switch mask, err := strconv.ParseUint(s.Umask, 8, 16); {
	case s.Kill > KillProcess:
		return fmt.Sprintf("Kill is %v", s.Kill), "group, mixed or process"
	case s.Kill == KillProcess && s.Guard:
		return "Guard is set with KillProcess", "one of them, because a Guard ends the group"
	case s.NullStdin && s.Stdin != nil:
		return "Stdin is set with NullStdin", "one of them"
	case s.PTY != nil && !canPTY:
		return "PTY is set", "none on this system, because it needs Linux"
	case s.PTY != nil && s.Guard:
		return "Guard is set with PTY", "one of them, because a terminal needs a session of its own"
	case s.Umask != "" && (err != nil || mask > 0o777):
		return fmt.Sprintf("Umask is %q", s.Umask), "an octal number up to 777, or nothing"
	case (s.Executable != nil || s.Limits != Limits{}) && !canLimit:
		return "Executable or Limits is set", "none on this system, because they need Linux"
	case s.Executable != nil && s.shell():
		return "Executable is set with Sockets or Umask", "one of them, because a shell executes the program"
	case s.shell() && s.Argv0 != "":
		return "Argv0 is set with Sockets or Umask", "none, because a shell executes the program"
	}

	return "", ""
}

// unixOnly names the first field that is set and needs a Unix.
func (s Spec) unixOnly() string {
	switch {
	case s.User != "":
		return "User"
	case s.Group != "":
		return "Group"
	case s.Umask != "":
		return "Umask"
	case len(s.Sockets) > 0:
		return "Sockets"
	case len(s.ExtraFiles) > 0:
		return "ExtraFiles"
	}
	return ""
}
