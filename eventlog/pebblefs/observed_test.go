package pebblefs_test

import (
	"sync"

	"github.com/coppice-go/coppice/eventlog"
)

// observed calls after when an operation that changes something is done, one call at a time.
type observed struct {
	eventlog.FS
	after func(n int)

	mu sync.Mutex
	n  int
}

func (o *observed) note() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.n++
	o.after(o.n)
}

func (o *observed) SyncDir(dir string) error { defer o.note(); return o.FS.SyncDir(dir) }
func (o *observed) Remove(name string) error { defer o.note(); return o.FS.Remove(name) }

func (o *observed) Rename(oldname, newname string) error {
	defer o.note()
	return o.FS.Rename(oldname, newname)
}

func (o *observed) Create(name string) (eventlog.File, error) {
	defer o.note()
	f, err := o.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return observedFile{f, o}, nil
}

func (o *observed) Open(name string, write bool) (eventlog.File, error) {
	f, err := o.FS.Open(name, write)
	if err != nil || !write {
		return f, err
	}
	return observedFile{f, o}, nil
}

type observedFile struct {
	eventlog.File
	o *observed
}

func (f observedFile) Sync() error { defer f.o.note(); return f.File.Sync() }

func (f observedFile) WriteAt(b []byte, off int64) (int, error) {
	defer f.o.note()
	return f.File.WriteAt(b, off)
}
