package process

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// shell reports whether a shell must execute the program, because only the process itself can set
// its LISTEN_PID and its umask.
func (s Spec) shell() bool { return s.Umask != "" || len(s.Sockets) > 0 }

// command returns the command that executes the program, without its input and output.
func (s Spec) command() *exec.Cmd {
	cmd := exec.Command(s.Path, s.Args...)
	if s.Argv0 != "" {
		cmd.Args[0] = s.Argv0
	}
	if s.shell() && cmd.Err == nil {
		cmd = exec.Command("/bin/sh", append([]string{"-c", s.script(), "sh", ownImage(cmd.Path)}, s.Args...)...)
	}

	cmd.Dir, cmd.Env = s.Dir, append([]string{}, s.Env...) // nil would inherit

	if n := len(s.Sockets); n > 0 {
		var names []string
		for _, socket := range s.Sockets {
			name := socket.Name
			if name == "" {
				name = "unknown"
			}
			names = append(names, name)
			cmd.ExtraFiles = append(cmd.ExtraFiles, socket.File)
		}

		cmd.Env = append(cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", n), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}

	cmd.ExtraFiles = append(cmd.ExtraFiles, s.ExtraFiles...)

	return cmd
}

// script is what the shell does before it becomes the program.
func (s Spec) script() string {
	var steps []string
	if s.Umask != "" {
		steps = append(steps, "umask "+s.Umask)
	}
	if len(s.Sockets) > 0 {
		steps = append(steps, "LISTEN_PID=$$", "export LISTEN_PID")
	}
	return strings.Join(append(steps, `exec "$@"`), "; ")
}

// ends are the ends of pipes and terminals that a start has opened.
type ends struct {
	mine, theirs []io.Closer
}

// pipe makes a pipe, of which the process gets the reading end if it reads.
func (e *ends) pipe(reads bool) (mine, theirs *os.File, err error) {
	in, out, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("pipe: %w", err)
	}

	mine, theirs = in, out
	if reads {
		mine, theirs = out, in
	}
	e.mine, e.theirs = append(e.mine, mine), append(e.theirs, theirs)

	return mine, theirs, nil
}

// connect gives the process its input and output: pipes, or one terminal.
func (r *running) connect(e *ends) error {
	if r.spec.PTY != nil {
		return r.connectTerminal(e)
	}

	if !r.spec.NullStdin {
		mine, theirs, err := e.pipe(true)
		if err != nil {
			return err
		}
		r.stdin, r.cmd.Stdin = mine, theirs
	}

	out, theirs, err := e.pipe(false)
	if err != nil {
		return err
	}
	r.outputs, r.cmd.Stdout = append(r.outputs, output{out, []func([]byte){r.spec.Stdout}}), theirs

	if out, theirs, err = e.pipe(false); err != nil {
		return err
	}
	r.outputs = append(r.outputs, output{out, []func([]byte){r.tail.add, r.spec.Stderr}})
	r.cmd.Stderr = theirs

	return nil
}

func (r *running) connectTerminal(e *ends) error {
	master, slave, err := openTerminal(*r.spec.PTY)
	if err != nil {
		return fmt.Errorf("PTY: %w", err)
	}

	e.mine, e.theirs = append(e.mine, master), append(e.theirs, slave)
	r.stdin, r.cmd.Stdout, r.cmd.Stderr = master, slave, slave
	if !r.spec.NullStdin {
		r.cmd.Stdin = slave
	}
	r.outputs = []output{{master, []func([]byte){r.tail.add, r.spec.Stdout}}}

	return nil
}

// output is one stream that the process writes, and the functions that get its lines.
type output struct {
	from *os.File
	to   []func(line []byte)
}
