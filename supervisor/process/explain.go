package process

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// explain names the true cause of a failed start. The system reports each step between fork and
// exec as a failure of the program: a missing Dir, a missing interpreter, a user that it cannot
// become.
func (r *running) explain(err error) error {
	if r.spec.Executable != nil {
		return explainImage(r.spec.Path, err)
	}
	if dir := r.spec.Dir; dir != "" {
		if cause := unusable(dir); cause != nil {
			return fmt.Errorf("Dir: %w; expected a directory that it can work in", cause)
		}
	}

	switch {
	case errors.Is(err, fs.ErrNotExist):
		if file := r.program(); exists(file) {
			return fmt.Errorf("%s is there, but %s is not: %w", file, interpreter(file), err)
		}

	case errors.Is(err, fs.ErrPermission):
		if who := r.identity(); who != "" {
			return fmt.Errorf("as %s: %w; expected a user that this process may become, and that may use %s and Dir",
				who, err, r.program())
		}
	}

	return err
}

// unusable returns why the process cannot work in dir, or nil.
func unusable(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &fs.PathError{Op: "chdir", Path: dir, Err: errors.New("not a directory")}
	}
	return enter(dir)
}

// program returns the path of the program in the eyes of this process.
func (r *running) program() string {
	if file := r.cmd.Path; filepath.IsAbs(file) || r.spec.Dir == "" {
		return file
	}
	return filepath.Join(r.spec.Dir, r.cmd.Path)
}

// identity says as whom the process should run, or "" if as this process does.
func (r *running) identity() string {
	var who []string
	if r.spec.User != "" {
		who = append(who, "user "+r.spec.User)
	}
	if r.spec.Group != "" {
		who = append(who, "group "+r.spec.Group)
	}
	return strings.Join(who, " and ")
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// interpreter names what the system executes for a file: the program in its first line if it is a
// script, and otherwise a dynamic loader.
func interpreter(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return "its interpreter"
	}
	defer f.Close()

	line, _ := bufio.NewReaderSize(f, 256).ReadSlice('\n')
	if text, ok := strings.CutPrefix(string(line), "#!"); ok {
		if fields := strings.Fields(text); len(fields) > 0 {
			return "its interpreter " + fields[0]
		}
	}

	return "its dynamic loader"
}
