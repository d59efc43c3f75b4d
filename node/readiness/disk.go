package readiness

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Disk watches the free space of the file system of a home. The zero Disk watches nothing.
type Disk struct{ *disk }

type disk struct {
	path string
	stat func(path string) (free, size uint64, err error)

	mu         sync.Mutex
	at         time.Time
	free, size uint64
	err        error
}

// NewDisk returns the Disk of the home at path.
func NewDisk(path string) Disk { return Disk{&disk{path: path, stat: statfs}} }

// leastFree is the free space below which a disk counts as full: room for the log's next records
// and for a flush of the state. On a small disk it is one part in leastPart of the whole.
const (
	leastFree = 16 << 20
	leastPart = 20
	statEvery = time.Second
)

// look returns why the disk is full, or "". It asks the system at most once in statEvery.
func (d Disk) look(now time.Time) string {
	if d.disk == nil {
		return ""
	}

	if free, want, ok := d.below(leastFree, now); ok {
		return fmt.Sprintf("the disk of %s has %d KiB free, want at least %d KiB: make room; "+
			"what was acknowledged is safe", d.path, free>>10, want>>10)
	}

	return ""
}

// Below reports whether the disk has fewer than so many bytes free; on a small disk, less than one
// part in twenty of the whole. It is safe for concurrent use, and asks the system at most once in a
// second.
func (d Disk) Below(bytes uint64, now time.Time) bool {
	if d.disk == nil {
		return false
	}
	_, _, ok := d.below(bytes, now)
	return ok
}

// Room returns the free bytes of the disk, for a process without privileges, and its size. ok is
// false if they are not known. It is safe for concurrent use, and asks the system at most once in a
// second.
func (d Disk) Room(now time.Time) (free, size uint64, ok bool) {
	if d.disk == nil {
		return 0, 0, false
	}
	free, _, _ = d.below(0, now)

	d.mu.Lock()
	defer d.mu.Unlock()
	return free, d.size, d.err == nil && d.size > 0
}

// below returns the free bytes, and how many are wanted.
func (d *disk) below(bytes uint64, now time.Time) (free, want uint64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()

	if age := now.Sub(d.at); age < 0 || age >= statEvery {
		d.at = now
		d.free, d.size, d.err = d.stat(d.path)
	}
	want = min(bytes, d.size/leastPart)

	return d.free, want, d.err == nil && d.free < want
}

func statfs(path string) (free, size uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, 0, err
	}
	block := uint64(s.Bsize)
	return uint64(s.Bavail) * block, s.Blocks * block, nil //nolint:unconvert // of another type elsewhere
}
