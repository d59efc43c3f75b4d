package offline

import (
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/install"
)

// stoppedHome is a home that no node runs in, held by this process.
type StoppedHome struct {
	home   string
	disk   vfs.FS
	logs   eventlog.FS // nil: the operating system's
	unlock func() error

	fatal func(error) // as VerifyOptions.Fatal, of its state
}

// openStopped locks a home. Close gives it back. Errors are ErrConfig and ErrHomeInUse.
func Open(dir string, disk vfs.FS, logs eventlog.FS) (*StoppedHome, error) {
	if err := home.CheckFormat(dir); err != nil {
		return nil, err
	}
	lock, err := home.Lock(dir)
	if err != nil {
		return nil, err
	}
	if disk == nil {
		disk = vfs.Default
	}
	h := &StoppedHome{home: dir, disk: disk, logs: logs, unlock: lock.Close}
	if err := h.settle(); err != nil {
		return nil, errors.Join(err, h.Close())
	}

	return h, nil
}

// Close gives the home back.
func (h *StoppedHome) Close() error { return h.unlock() }

func (h *StoppedHome) Snapshots() snapshots.Dir {
	return snapshots.Dir{FS: h.disk, Path: home.SnapshotDir(h.home)}
}

// settle ends what a crash cut short.
func (h *StoppedHome) settle() error {
	return install.Settle(h.disk, h.home, install.LogOnDisk(h.logs, h.home), "")
}

func (h *StoppedHome) readLog() (*eventlog.Log, error) {
	return eventlog.OpenReadOnly(home.LogDir(h.home), eventlog.Options{FS: h.logs})
}

// agreed holds the home's state against its log, without writing to either.
func (h *StoppedHome) checkAgreement() error {
	db, err := storage.Open(home.StateDir(h.home), storage.Options{FS: h.disk, ReadOnly: true})
	if err != nil {
		return err
	}
	s, err := install.ReadLoggedState(db)
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}

	return h.checkAgrees(s)
}

func (h *StoppedHome) checkAgrees(s install.LoggedState) error {
	l, err := h.readLog()
	if err != nil {
		return err
	}
	defer l.Close()
	return install.Agree(l, s)
}
