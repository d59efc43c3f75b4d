package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coppice-go/coppice/internal/flock"
	"github.com/coppice-go/coppice/node/exit"
)

// LockSuffix ends the name of the lock of a directory that is being made.
const LockSuffix = ".lock"

// Claim makes this process the only one that makes the directory dest, until release is called or
// the process ends. dest must be vacant (see RequireVacant). It is made under the name tmp, which
// is that of dest with a suffix, and Claim removes what an earlier process left there. The lock is
// a file beside tmp, which release removes. The error is exit.ErrHomeInUse if another process makes
// dest, and then says that another work, such as "backup", writes to it. Other errors are
// exit.ErrConfig.
func Claim(dest, suffix, work string) (path, tmp string, release func(), err error) {
	if path, err = RequireVacant(dest); err != nil {
		return path, "", nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return path, "", nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	tmp = path + suffix
	lock, err := flock.TryLockPassing(tmp + LockSuffix)
	if errors.Is(err, flock.ErrLocked) {
		return path, tmp, nil, exit.InUse("another %s is writing to %s", work, path)
	}
	if err != nil {
		return path, tmp, nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	release = func() {
		os.Remove(lock.Name()) // before the close: nobody else has this lock
		lock.Close()
	}

	// The process that had the lock before may have completed dest.
	if _, err = RequireVacant(path); err == nil {
		if err = os.RemoveAll(tmp); err != nil {
			err = fmt.Errorf("%w: %w", exit.ErrConfig, err)
		}
	}
	if err != nil {
		release()
		return path, tmp, nil, err
	}

	return path, tmp, release, nil
}
