package manager

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// DefaultLogBytes bounds a log file if nothing else is said.
const DefaultLogBytes = 50 << 20

// Journal writes lines to the console and to a file. When the file is full, it gets the suffix .1,
// in place of an older one, and a new file begins. A file that cannot be written does not stop
// anybody: the console says so once.
type Journal struct {
	console io.Writer
	path    string
	limit   int64

	mu   sync.Mutex
	file *os.File
	size int64
	said bool
}

// NewJournal returns a journal. An empty path means no file.
func NewJournal(console io.Writer, path string, limit int64) (*Journal, error) {
	j := &Journal{console: console, path: path, limit: limit}
	if path == "" {
		return j, nil
	}
	return j, j.open()
}

func (j *Journal) open() error {
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("LOG_FILE: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("LOG_FILE: %w", errors.Join(err, f.Close()))
	}
	j.file, j.size = f, info.Size()
	return nil
}

// Line writes a line.
func (j *Journal) Line(text string) {
	line := strings.TrimRight(text, "\n") + "\n"

	j.mu.Lock()
	defer j.mu.Unlock()

	_, _ = io.WriteString(j.console, line) // a console that is gone must not stop CometBFT
	if j.path == "" {
		return
	}
	if err := j.write(line); err != nil && !j.said {
		j.said = true
		_, _ = fmt.Fprintf(j.console, "the log file cannot be written: %v\n", err)
	}
}

func (j *Journal) write(line string) error {
	if j.file != nil && j.size > 0 && j.size+int64(len(line)) > j.limit {
		if err := errors.Join(j.file.Close(), os.Rename(j.path, j.path+".1")); err != nil {
			j.file = nil
			return err
		}
		j.file = nil
	}
	if j.file == nil {
		if err := j.open(); err != nil {
			return err
		}
	}

	n, err := io.WriteString(j.file, line)
	j.size += int64(n)

	return err
}

// Close closes the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}
