package home

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coppice-go/coppice/internal/flock"
)

// SocketDir returns the directory of a home's sockets. It lies in the home. If its path would be
// too long for a socket's address, or could not be an element of a list that CometBFT sends to its
// peers, it lies in the temporary directory, and only the user can enter it.
func SocketDir(home string) string {
	const longest = 107 - len("/abci-0123456789-012345.sock")
	if dir := filepath.Join(home, "run"); len(dir) <= longest && plainText(dir) && !strings.Contains(dir, ",") {
		return dir
	}
	sum := sha256.Sum256([]byte(home)) // no two homes share a directory, or they would remove each other's sockets
	return filepath.Join(os.TempDir(), fmt.Sprintf("%s%x", tempPrefix(), sum[:12]))
}

// tempPrefix returns the prefix of the names of this user's socket directories.
func tempPrefix() string { return fmt.Sprintf("coppice-%d-", os.Getuid()) }

// socketLock is the file in a socket directory on which its process holds a lock. The lock ends
// with the process, however that ends. A directory whose lock no process holds is a leftover.
const socketLock = "lock"

// sockets holds the socket directories that this process has locked, with a count for each. The
// count is needed because a lock belongs to an open file: an incarnation that does not end must not
// keep its successor from holding the directory.
var sockets = struct {
	mu   sync.Mutex
	held map[string]*heldSockets
}{held: make(map[string]*heldSockets)}

type heldSockets struct {
	lock  *os.File
	users int
}

// lockTime is how long a start waits for another start that is removing a leftover of the same
// home.
const lockTime = 500 * time.Millisecond

// HoldSockets makes the directory of a home's sockets and removes the sockets that another run has
// left. The caller must be the only process that runs the home, and must call release. If the
// directory lies in the temporary directory, release removes it, and HoldSockets also removes
// leftovers of other homes there.
func HoldSockets(home string) (release func(), err error) {
	sockets.mu.Lock()
	defer sockets.mu.Unlock()

	dir := SocketDir(home)
	held := sockets.held[dir]
	if held == nil {
		lock, err := lockSockets(dir)
		if err != nil {
			return nil, fmt.Errorf("directory of CometBFT's sockets: %w", err)
		}

		held = &heldSockets{lock: lock}
		sockets.held[dir] = held
		if isTemp(dir) {
			sweepSockets(dir)
		}
	}

	if err := removeSockets(dir); err != nil {
		return nil, fmt.Errorf("stale socket: %w", err)
	}

	held.users++
	return sync.OnceFunc(func() {
		sockets.mu.Lock()
		defer sockets.mu.Unlock()

		if held.users--; held.users > 0 {
			return
		}

		delete(sockets.held, dir)
		if isTemp(dir) {
			removeSocketDir(dir)
		}

		held.lock.Close()
	}), nil
}

func isTemp(dir string) bool { return strings.HasPrefix(filepath.Base(dir), tempPrefix()) }

// lockSockets makes the directory and takes its lock.
func lockSockets(dir string) (*os.File, error) {
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if err := private(dir); err != nil {
			return nil, err
		}

		lock, err := flock.TryLock(filepath.Join(dir, socketLock))
		switch {
		case err == nil:
			return lock, nil
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, flock.ErrLocked), time.Since(began) > lockTime:
			return nil, err
		}
	}
}

// private returns an error for a directory that another user has put there or can enter.
func private(dir string) error {
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !ownedByUs(info):
		return fmt.Errorf("%s: want a directory that only this user can enter, got %v", dir, info.Mode())
	}
	return nil
}

// mostSwept is the number of names in the temporary directory that one start looks at.
const mostSwept = 10_000

// unlockedAge is the age from which a directory without a lock counts as a leftover: of a version
// that had no locks, or of a start that was killed before it made the lock.
const unlockedAge = time.Hour

// sweepSockets removes the socket directories of processes that have ended, except own. It leaves a
// directory that it cannot remove.
func sweepSockets(own string) {
	temp, err := os.Open(os.TempDir())
	if err != nil {
		return
	}
	defer temp.Close()

	names, _ := temp.Readdirnames(mostSwept)
	for _, name := range names {
		if dir := filepath.Join(os.TempDir(), name); strings.HasPrefix(name, tempPrefix()) && dir != own {
			sweepSocketDir(dir)
		}
	}
}

func sweepSocketDir(dir string) {
	if private(dir) != nil {
		return
	}

	lock, err := flock.TryLockExisting(filepath.Join(dir, socketLock))
	switch {
	case err == nil:
		removeSocketDir(dir)
		lock.Close()
	case errors.Is(err, fs.ErrNotExist):
		if info, err := os.Lstat(dir); err == nil && time.Since(info.ModTime()) > unlockedAge && !hasListener(dir) {
			removeSocketDir(dir)
		}
	}
}

// hasListener reports whether a process listens on a socket of the directory, or may do so.
func hasListener(dir string) bool {
	paths, err := socketsIn(dir)
	if err != nil {
		return true
	}

	for _, p := range paths {
		c, err := net.DialTimeout("unix", p, time.Second)
		if err == nil {
			c.Close()
		}
		if err == nil || !errors.Is(err, syscall.ECONNREFUSED) {
			return true
		}
	}

	return false
}

// removeSocketDir removes a directory if it contains only sockets and the lock.
func removeSocketDir(dir string) {
	if removeSockets(dir) != nil {
		return
	}
	if err := os.Remove(filepath.Join(dir, socketLock)); err == nil || errors.Is(err, fs.ErrNotExist) {
		_ = os.Remove(dir)
	}
}

func removeSockets(dir string) error {
	paths, err := socketsIn(dir)
	for _, p := range paths {
		if e := os.Remove(p); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

func socketsIn(dir string) (paths []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Type() == fs.ModeSocket {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths, err
}
