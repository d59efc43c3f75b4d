package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/coppice-go/coppice/eventlog"
)

// Sector is the unit, in bytes, that a crash keeps or loses.
const Sector = 512

// Op is an operation that changes a disk or makes a change durable.
type Op struct {
	Kind Kind
	Path string
	Off  int64 // of a write
	Len  int   // of a write
	N    int   // number of operations of any Kind before it on this disk
}

// Kind is the kind of an Op.
type Kind string

// The kinds of operations.
const (
	Create  Kind = "create"
	Write   Kind = "write"
	Sync    Kind = "sync"
	SyncDir Kind = "syncdir"
	Rename  Kind = "rename"
	Remove  Kind = "remove"
	Mkdir   Kind = "mkdir"
)

// Fault says how an operation goes wrong. With the zero Fault it succeeds.
type Fault struct {
	Err   error // returned by the operation
	Keep  int   // how many bytes of a write take effect, if Err or Short is set
	Short bool  // the write is cut to Keep bytes and reports that number
	// Swallow makes an operation return nil at once without doing anything, as a careless caller or
	// a lying disk would.
	Swallow bool
}

// Disk is an in-memory disk that implements eventlog.FS. Set Before and After before the disk is
// used.
type Disk struct {
	// Before decides how an operation fails, if it does. After is called when the operation is
	// done, whatever the result. Both may call Crash.
	Before func(Op) Fault
	After  func(Op)
	// Limit is the size of the disk in bytes; 0 means no limit.
	Limit int64

	mu    sync.Mutex
	root  *node
	ops   int
	locks map[string]bool
}

// NewDisk returns an empty disk.
func NewDisk() *Disk { return &Disk{root: newDir(), locks: make(map[string]bool)} }

// node is a file or a directory.
type node struct {
	// A directory has names: as processes see them, and as they are on the disk.
	names, durableNames map[string]*node

	// A file has bytes, in the same two forms. dirty holds the sectors that the kernel means to
	// write: those that differ, except for sectors that a failed sync gave up.
	data, durable []byte
	dirty         map[int64]bool
	path          string // its newest name
}

func newDir() *node { return &node{names: map[string]*node{}, durableNames: map[string]*node{}} }

func (n *node) isDir() bool { return n.names != nil }

// find returns the node at a path, or nil. mu is held.
func (d *Disk) find(name string) *node {
	n := d.root
	for _, part := range strings.Split(path.Clean("/"+name), "/") {
		if part == "" {
			continue
		}
		if n == nil || !n.isDir() {
			return nil
		}
		n = n.names[part]
	}

	return n
}

// parent returns the directory of a path, or nil, and the base name in it. mu is held.
func (d *Disk) parent(name string) (*node, string) {
	dir, base := path.Split(path.Clean("/" + name))
	return d.find(dir), base
}

func notExist(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

// do runs an operation between Before and After. act runs with mu held.
func (d *Disk) do(op Op, act func(Fault) error) error {
	d.mu.Lock()
	op.N = d.ops
	d.ops++
	d.mu.Unlock()

	var fault Fault
	if d.Before != nil {
		fault = d.Before(op)
	}

	d.mu.Lock()
	err := act(fault)
	d.mu.Unlock()

	if d.After != nil {
		d.After(op)
	}

	return err
}

// simple runs an operation that has no effect at all if a fault meets it.
func (d *Disk) simple(kind Kind, name string, act func() error) error {
	return d.do(Op{Kind: kind, Path: name}, func(f Fault) error {
		if f.Err != nil {
			return &fs.PathError{Op: string(kind), Path: name, Err: f.Err}
		}
		if f.Swallow {
			return nil
		}
		return act()
	})
}

// MkdirAll implements eventlog.FS.
func (d *Disk) MkdirAll(dir string) error {
	return d.simple(Mkdir, dir, func() error {
		n := d.root
		for _, part := range strings.Split(path.Clean("/"+dir), "/") {
			if part == "" {
				continue
			}
			if n.names[part] == nil {
				n.names[part] = newDir()
			}
			if n = n.names[part]; !n.isDir() {
				return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
			}
		}

		return nil
	})
}

// List implements eventlog.FS.
func (d *Disk) List(dir string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()

	n := d.find(dir)
	if n == nil || !n.isDir() {
		return nil, notExist("list", dir)
	}
	var names []string
	for name := range n.names {
		names = append(names, name)
	}

	return names, nil
}

// SyncDir implements eventlog.FS.
func (d *Disk) SyncDir(dir string) error {
	return d.simple(SyncDir, path.Clean("/"+dir), func() error {
		n := d.find(dir)
		if n == nil || !n.isDir() {
			return notExist("syncdir", dir)
		}
		n.durableNames = maps.Clone(n.names)
		return nil
	})
}

// Create implements eventlog.FS.
func (d *Disk) Create(name string) (eventlog.File, error) {
	n := &node{dirty: map[int64]bool{}}
	err := d.simple(Create, name, func() error {
		dir, base := d.parent(name)
		if dir == nil {
			return notExist("create", name)
		}
		dir.names[base], n.path = n, name
		return nil
	})

	if err != nil {
		return nil, err
	}
	return &diskFile{disk: d, node: n, write: true}, nil
}

// Open implements eventlog.FS.
func (d *Disk) Open(name string, write bool) (eventlog.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.find(name)
	if n == nil || n.isDir() {
		return nil, notExist("open", name)
	}
	return &diskFile{disk: d, node: n, write: write}, nil
}

// Rename implements eventlog.FS.
func (d *Disk) Rename(oldname, newname string) error {
	return d.simple(Rename, newname, func() error {
		from, oldbase := d.parent(oldname)
		to, newbase := d.parent(newname)
		if from == nil || to == nil || from.names[oldbase] == nil {
			return notExist("rename", oldname)
		}

		to.names[newbase] = from.names[oldbase]
		to.names[newbase].path = newname
		delete(from.names, oldbase)

		return nil
	})
}

// Remove implements eventlog.FS.
func (d *Disk) Remove(name string) error {
	return d.simple(Remove, name, func() error {
		dir, base := d.parent(name)
		if dir == nil || dir.names[base] == nil {
			return notExist("remove", name)
		}
		delete(dir.names, base)
		return nil
	})
}

// Lock implements eventlog.FS. A crash frees all locks.
func (d *Disk) Lock(name string) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()

	if d.locks[name] {
		return nil, fmt.Errorf("%w: %s", eventlog.ErrLocked, name)
	}

	d.locks[name] = true
	return unlocker(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.locks, name)
	}), nil
}

type unlocker func()

func (u unlocker) Close() error { u(); return nil }

// used returns the size of all files below n. mu is held.
func (n *node) used(seen map[*node]bool) int64 {
	if seen[n] {
		return 0
	}

	seen[n] = true
	total := int64(len(n.data))
	for _, c := range n.names {
		total += c.used(seen)
	}

	return total
}

// used returns the size of all files.
func (d *Disk) used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.root.used(map[*node]bool{})
}

// Ops returns the number of operations so far.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// Crash returns the disk as it may be found after the power failed now. Each sector and each name
// that is not durable is kept with a probability of percent. The disk itself goes on.
func (d *Disk) Crash(rng *rand.Rand, percent int) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := NewDisk()
	c.root = d.root.crash(func() bool { return rng.IntN(100) < percent }, map[*node]*node{})
	return c
}

func (n *node) crash(keep func() bool, seen map[*node]*node) *node {
	if c := seen[n]; c != nil {
		return c
	}

	if !n.isDir() {
		c := &node{data: append([]byte(nil), n.durable...), dirty: map[int64]bool{}, path: n.path}
		for _, s := range slices.Sorted(maps.Keys(n.dirty)) { // in order, so that a seed repeats a crash
			if !keep() {
				continue
			}
			from, to := s*Sector, min((s+1)*Sector, int64(len(n.data)))
			if grow := to - int64(len(c.data)); grow > 0 {
				c.data = append(c.data, make([]byte, grow)...)
			}
			copy(c.data[from:to], n.data[from:to])
		}

		c.durable = append([]byte(nil), c.data...)
		seen[n] = c

		return c
	}

	c := newDir()
	seen[n] = c
	pick := func(name string, now, durable *node) {
		child := durable
		if now != durable && keep() {
			child = now
		}
		if child != nil {
			c.names[name] = child.crash(keep, seen)
		}
	}

	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		pick(name, n.names[name], n.durableNames[name])
	}

	for _, name := range slices.Sorted(maps.Keys(n.durableNames)) {
		if n.names[name] == nil {
			pick(name, nil, n.durableNames[name])
		}
	}

	c.durableNames = maps.Clone(c.names)

	return c
}
