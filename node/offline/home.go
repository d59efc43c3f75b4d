package offline

import (
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/install"
)

// StoppedHome is a home in which no node runs, and which this process has locked.
type StoppedHome struct {
	home   string // its directory
	disk   vfs.FS
	logs   eventlog.FS // nil: the operating system's
	unlock func() error

	fatal func(error) // see SnapshotOptions.Fatal
}

// Open locks a home, and ends an installation of a snapshot that a crash interrupted. disk and logs
// may be nil for the operating system's. Errors are exit.ErrConfig and exit.ErrHomeInUse.
func Open(dir string, disk vfs.FS, logs eventlog.FS) (*StoppedHome, error) {
	if err := home.CheckFormat(dir); err != nil {
		return nil, err
	}
	lock, err := home.Lock(dir)
	if err != nil {
		return nil, err
	}
	return open(dir, disk, logs, lock)
}

// openToRead is like Open, for work that writes nothing in the home. It also opens a home that this
// process cannot write.
func openToRead(dir string) (*StoppedHome, error) {
	if err := home.CheckFormat(dir); err != nil {
		return nil, err
	}
	lock, err := home.LockToRead(dir)
	if err != nil {
		return nil, err
	}
	return open(dir, nil, nil, lock)
}

// open ends an interrupted installation in a home that is locked.
func open(dir string, disk vfs.FS, logs eventlog.FS, lock io.Closer) (*StoppedHome, error) {
	if disk == nil {
		disk = vfs.Default
	}
	h := &StoppedHome{home: dir, disk: disk, logs: logs, unlock: lock.Close}
	if err := h.settle(); err != nil {
		return nil, errors.Join(err, h.Close())
	}

	return h, nil
}

// Close unlocks the home.
func (h *StoppedHome) Close() error { return h.unlock() }

// Snapshots returns the directory of the home's snapshots.
func (h *StoppedHome) Snapshots() snapshots.Dir {
	return snapshots.Dir{FS: h.disk, Path: home.SnapshotDir(h.home)}
}

// settle ends an installation of a snapshot that a crash interrupted.
func (h *StoppedHome) settle() error {
	return install.Settle(h.disk, h.home, install.LogOnDisk(h.logs, h.home), "")
}

// readLog opens the home's log for reading.
func (h *StoppedHome) readLog() (*eventlog.Log, error) {
	return eventlog.OpenReadOnly(home.LogDir(h.home), eventlog.Options{FS: h.logs})
}

// checkAgreement checks that the home's state and log belong together. It writes to neither.
func (h *StoppedHome) checkAgreement() error {
	db, err := storage.Open(home.StateDir(h.home), storage.Options{FS: h.disk, ReadOnly: true})
	if err != nil {
		return err
	}
	s, err := install.ReadLoggedState(db)
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}

	l, err := h.readLog()
	if err != nil {
		return err
	}
	defer l.Close()

	return install.Agree(l, s)
}
