package host

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/coppice-go/coppice/node/exit"
)

// AdminConns is the number of connections that are reserved for the admin service.
const AdminConns = 32

// Bounds on the files that a process may have open, and on its connections, each of which needs one
// file. When a process starts, the Go runtime raises its soft limit on files to the hard one.
const (
	minFiles  = 512  // with fewer, the state and the log may find none left, which ends the node
	ownFiles  = 192  // files that connections must leave to the rest of the node
	mostConns = 4096 // connections, however many files there are
)

// CheckFiles returns how many connections the listener may hold. It returns an error if the process
// may open too few files for a node.
func CheckFiles() (conns int, err error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("limit of open files: %w", err)
	}

	return ConnsFor(uint64(l.Cur)) //nolint:unconvert // it is signed on FreeBSD
}

// ConnsFor returns how many connections the listener may hold if the process may open the given
// number of files. It returns exit.ErrConfig if these files are too few for a node.
func ConnsFor(files uint64) (int, error) {
	if files < minFiles {
		return 0, fmt.Errorf("%w: this process may open %d files, want at least %d: raise the limit (ulimit -n, "+
			"LimitNOFILE=)", exit.ErrConfig, files, minFiles)
	}

	return int(min(files-ownFiles, mostConns)), nil
}
