package plugin

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/coppice-go/coppice/engines/streams"
)

// maxProgram is the longest program that is copied, in bytes.
const maxProgram = 1 << 30

// image returns a copy of the program in memory that nobody can change any more. The copy has the
// checksum. It must be closed.
func image(path string, sum [sha256.Size]byte) (*os.File, error) {
	f, err := openProgram(path)
	if err != nil {
		return nil, streams.Fail(streams.Misconfigured, err)
	}
	defer f.Close()

	fd, err := unix.MemfdCreate("coppice-plugin", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, streams.Fail(streams.Misconfigured, fmt.Errorf("memory for the plugin: %w", err))
	}
	copied := os.NewFile(uintptr(fd), path)
	if err := fill(copied, f, sum); err != nil {
		copied.Close()
		return nil, streams.Fail(streams.Misconfigured, fmt.Errorf("plugin %s: %w", path, err))
	}

	return copied, nil
}

// openProgram opens the file of a program, and refuses one that others than its owner may change.
func openProgram(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("plugin %s is a symbolic link, want the program itself", path)
	} else if err != nil {
		return nil, fmt.Errorf("plugin: %w", err)
	}

	info, err := f.Stat()
	if err == nil {
		err = mayChange(path, info, false)
	}
	if err == nil {
		dir := filepath.Dir(path)
		if info, err = os.Stat(dir); err == nil {
			err = mayChange(dir, info, true)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}

	return f, nil
}

// mayChange returns an error if others than the node's user and root may change a file or what is
// in a directory.
func mayChange(path string, info os.FileInfo, isDir bool) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case info.IsDir() != isDir || !isDir && !info.Mode().IsRegular():
		return fmt.Errorf("plugin %s is no regular file", path)
	case ok && stat.Uid != 0 && int(stat.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d, want the node's user %d or root", path, stat.Uid, os.Geteuid())
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s may be written by others than its owner (%v): chmod go-w %s", path, info.Mode().Perm(),
			path)
	case !isDir && info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s is not executable: chmod +x %s", path, path)
	case !isDir && info.Size() > maxProgram:
		return fmt.Errorf("%s has %d bytes, want at most %d", path, info.Size(), maxProgram)
	}
	return nil
}

// fill copies a program, seals the copy, and checks the copy's checksum: what is checked is what
// is executed.
func fill(to, from *os.File, want [sha256.Size]byte) error {
	if _, err := io.Copy(to, io.LimitReader(from, maxProgram+1)); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(to.Fd(), unix.F_ADD_SEALS,
		unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return fmt.Errorf("seal: %w", err)
	}

	if _, err := to.Seek(0, io.SeekStart); err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, to); err != nil {
		return err
	}
	if has := [sha256.Size]byte(h.Sum(nil)); has != want {
		return fmt.Errorf("its SHA-256 is %x, and the definition says %x: it was exchanged or rebuilt", has, want)
	}

	return nil
}
