package host

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/coppice-go/coppice/node/exit"
)

// Files that a process may have open. The Go runtime has raised the soft limit to the hard one when
// it started.
const (
	minFiles   = 512  // below it the state and the log may find none left, which ends the node
	ownFiles   = 192  // that connections must leave to the rest of the node
	mostConns  = 4096 // connections, however many files there are
	AdminConns = 32   // of them for admin, whatever requests the others have
)

// checkFiles refuses a process that would run out of file descriptors. It answers how many
// connections there may be.
func CheckFiles() (conns int, err error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("limit of open files: %w", err)
	}
	return ConnsFor(uint64(l.Cur)) //nolint:unconvert // it is signed on FreeBSD
}

// ConnsFor returns the number of connections of a process that may open so many files.
func ConnsFor(files uint64) (int, error) {
	if files < minFiles {
		return 0, fmt.Errorf("%w: this process may open %d files, want at least %d: raise the limit (ulimit -n, "+
			"LimitNOFILE=)", exit.ErrConfig, files, minFiles)
	}
	return int(min(files-ownFiles, mostConns)), nil
}
