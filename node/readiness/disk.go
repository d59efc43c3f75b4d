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

	mu   sync.Mutex
	at   time.Time
	full string
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

	d.mu.Lock()
	defer d.mu.Unlock()

	if age := now.Sub(d.at); age >= 0 && age < statEvery {
		return d.full
	}

	d.at, d.full = now, ""
	free, size, err := d.stat(d.path)
	if want := min(leastFree, size/leastPart); err == nil && free < want {
		d.full = fmt.Sprintf("the disk of %s has %d KiB free, want at least %d KiB: make room; "+
			"what was acknowledged is safe", d.path, free>>10, want>>10)
	}

	return d.full
}

func statfs(path string) (free, size uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, 0, err
	}
	block := uint64(s.Bsize)
	return uint64(s.Bavail) * block, s.Blocks * block, nil //nolint:unconvert // of another type elsewhere
}
