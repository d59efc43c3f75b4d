package vfs

import (
	"io"
	"io/fs"
	"syscall"
)

// diskFile is an open file of a Disk.
type diskFile struct {
	disk  *Disk
	node  *node
	write bool
}

func (f *diskFile) Close() error { return nil }

// name returns the present name of the file, which may differ from the name it was opened by.
func (f *diskFile) name() string {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return f.node.path
}

func (f *diskFile) Size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return int64(len(f.node.data)), nil
}

func (f *diskFile) ReadAt(b []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()

	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.data[off:])
	if n < len(b) {
		return n, io.EOF
	}

	return n, nil
}

func (f *diskFile) WriteAt(b []byte, off int64) (n int, err error) {
	err = f.disk.do(Op{Kind: Write, Path: f.name(), Off: off, Len: len(b)}, func(fault Fault) error {
		if !f.write {
			return &fs.PathError{Op: "write", Path: f.node.path, Err: fs.ErrPermission}
		}
		cause := fault.Err
		if fault.Short || cause != nil {
			b = b[:min(fault.Keep, len(b))]
		}

		if d := f.disk; d.Limit > 0 {
			room := d.Limit - d.root.used(map[*node]bool{})
			if size := int64(len(f.node.data)) + max(room, 0); off+int64(len(b)) > size {
				b, cause = b[:max(size-off, 0)], syscall.ENOSPC
			}
		}

		f.put(b, off)
		n = len(b)
		if cause != nil {
			return &fs.PathError{Op: "write", Path: f.node.path, Err: cause}
		}

		return nil
	})
	return n, err
}

// put changes the page cache. A sector that a failed sync gave up will be written again.
func (f *diskFile) put(b []byte, off int64) {
	if len(b) == 0 {
		return
	}
	end := off + int64(len(b))
	if grow := end - int64(len(f.node.data)); grow > 0 {
		f.node.data = append(f.node.data, make([]byte, grow)...)
	}

	copy(f.node.data[off:], b)
	for s := off / Sector; s*Sector < end; s++ {
		f.node.dirty[s] = true
	}
}

// Sync makes all sectors durable. If it fails, the kernel keeps showing them and forgets that they
// were to be written.
func (f *diskFile) Sync() error {
	return f.disk.do(Op{Kind: Sync, Path: f.name()}, func(fault Fault) error {
		n := f.node
		switch {
		case fault.Swallow:
			return nil
		case fault.Err != nil:
			clear(n.dirty)
			return &fs.PathError{Op: "fdatasync", Path: f.node.path, Err: fault.Err}
		}

		if grow := len(n.data) - len(n.durable); grow > 0 {
			n.durable = append(n.durable, make([]byte, grow)...)
		}

		for s := range n.dirty {
			from, to := s*Sector, min((s+1)*Sector, int64(len(n.data)))
			copy(n.durable[from:to], n.data[from:to])
		}

		clear(n.dirty)

		return nil
	})
}

// Damage changes the bytes of a file, in memory and on the disk. It is not an operation: Before and
// After are not called.
func (d *Disk) Damage(name string, change func(data []byte)) error {
	d.mu.Lock()
	defer d.mu.Unlock()

	n := d.find(name)
	if n == nil || n.isDir() {
		return notExist("damage", name)
	}

	change(n.data)
	n.durable = append(n.durable[:0], n.data...)
	clear(n.dirty)

	return nil
}

// Files returns the paths of all files below dir that end in suffix, in any order.
func (d *Disk) Files(dir, suffix string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()

	var out []string
	var walk func(prefix string, n *node)
	walk = func(prefix string, n *node) {
		for name, c := range n.names {
			p := prefix + "/" + name
			if c.isDir() {
				walk(p, c)
			} else if len(p) >= len(suffix) && p[len(p)-len(suffix):] == suffix {
				out = append(out, p)
			}
		}
	}

	if n := d.find(dir); n != nil && n.isDir() {
		if dir == "/" {
			dir = ""
		}
		walk(dir, n)
	}

	return out
}

// Adopt copies a file of another disk to the same path. The copy is durable.
func (d *Disk) Adopt(from *Disk, name string) error {
	from.mu.Lock()
	n := from.find(name)
	var data []byte
	if n != nil {
		data = append(data, n.data...)
	}

	from.mu.Unlock()

	d.mu.Lock()
	defer d.mu.Unlock()

	dir, base := d.parent(name)
	if n == nil || n.isDir() || dir == nil {
		return notExist("adopt", name)
	}

	c := &node{data: data, durable: append([]byte(nil), data...), dirty: map[int64]bool{}, path: name}
	dir.names[base], dir.durableNames[base] = c, c

	return nil
}
