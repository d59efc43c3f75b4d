package agentlog

import (
	"os"
	"path/filepath"
	"sync"
)

// maxBytes is the size at which the file is renamed to a name with ".1" at its end, in the place of
// the one before, and begun anew.
const maxBytes = 64 << 20

// file is an append-only file of bounded size.
type file struct {
	path   string
	most   int64
	failed func(error)

	mu      sync.Mutex
	f       *os.File
	size    int64
	failing bool
}

func openFile(path string, most int64, failed func(error)) (*file, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	w := &file{path: path, most: most, failed: failed}
	return w, w.open()
}

// open opens the file at its end.
func (w *file) open() error {
	f, err := os.OpenFile(w.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	w.f, w.size = f, info.Size()
	return nil
}

// write appends a line. An error is reported once, until a write succeeds.
func (w *file) write(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()

	err := w.append(line)
	if err != nil && !w.failing && w.failed != nil {
		w.failed(err)
	}
	w.failing = err != nil
}

func (w *file) append(line string) error {
	if w.f == nil {
		if err := w.open(); err != nil {
			return err
		}
	}

	if w.size > 0 && w.size+int64(len(line)) > w.most {
		w.f.Close()
		w.f = nil
		if err := os.Rename(w.path, w.path+".1"); err != nil {
			return err
		}
		if err := w.open(); err != nil {
			return err
		}
	}

	n, err := w.f.WriteString(line)
	w.size += int64(n)
	return err
}

func (w *file) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return nil
	}
	f := w.f
	w.f = nil
	return f.Close()
}
