package file

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync makes a file's bytes durable, and its size.
func datasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			return err
		}
	}
}
