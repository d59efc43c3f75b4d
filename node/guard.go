package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/node/home"
)

// guardEvery is how often a node makes sure that its home is still in its place. It does so before
// each acknowledgement and before each change of a name in the state as well.
const guardEvery = 50 * time.Millisecond

// guard notices that the home was moved, removed or replaced under the running node. The files that
// the node has open go on to work then, so it would acknowledge what nobody finds again, and
// everything that it opens by name belongs to the new home. Therefore the process ends at once,
// without an orderly stop.
type guard struct {
	lost func(error) // ends the process

	mu    sync.Mutex
	files map[string]os.FileInfo // by path; each is open in this process, so its inode stays taken
}

// watch adds a file that must stay at its path. The process must have it open until forget.
func (g *guard) watch(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	if g.files == nil {
		g.files = make(map[string]os.FileInfo)
	}
	g.files[path] = info

	return nil
}

// forget removes a file that is about to be closed.
func (g *guard) forget(path string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.files, path)
}

// held returns an error if a watched file is no longer at its path.
func (g *guard) held() error {
	g.mu.Lock()
	defer g.mu.Unlock()

	for path, ours := range g.files {
		there, err := os.Stat(path)
		if err == nil && !os.SameFile(ours, there) {
			err = fmt.Errorf("%s is another file", path)
		}
		if err != nil {
			return err
		}
	}

	return nil
}

// check ends the process if the home is no longer in its place.
func (g *guard) check() {
	if err := g.held(); err != nil {
		g.lost(err)
	}
}

// run checks until ctx ends.
func (g *guard) run(ctx context.Context) {
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()

	for {
		select {
		case <-tick.C:
			g.check()
		case <-ctx.Done():
			return
		}
	}
}

// guardedFS is a file system on which the process ends before it changes a name below a home that
// is no longer its own.
type guardedFS struct {
	vfs.FS
	check func()
}

// Create implements vfs.FS.
func (f guardedFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f.check()
	return f.FS.Create(name, c)
}

// Link implements vfs.FS.
func (f guardedFS) Link(oldname, newname string) error {
	f.check()
	return f.FS.Link(oldname, newname)
}

// OpenReadWrite implements vfs.FS.
func (f guardedFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f.check()
	return f.FS.OpenReadWrite(name, c, o...)
}

// Remove implements vfs.FS.
func (f guardedFS) Remove(name string) error {
	f.check()
	return f.FS.Remove(name)
}

// RemoveAll implements vfs.FS.
func (f guardedFS) RemoveAll(name string) error {
	f.check()
	return f.FS.RemoveAll(name)
}

// Rename implements vfs.FS.
func (f guardedFS) Rename(oldname, newname string) error {
	f.check()
	return f.FS.Rename(oldname, newname)
}

// ReuseForWrite implements vfs.FS.
func (f guardedFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f.check()
	return f.FS.ReuseForWrite(oldname, newname, c)
}

// MkdirAll implements vfs.FS.
func (f guardedFS) MkdirAll(dir string, perm os.FileMode) error {
	f.check()
	return f.FS.MkdirAll(dir, perm)
}

// Unwrap implements vfs.FS.
func (f guardedFS) Unwrap() vfs.FS { return f.FS }

// stateLock returns the file that pebble holds open while the state is open.
func (n *Node) stateLock() string { return filepath.Join(home.StateDir(n.home), "LOCK") }
