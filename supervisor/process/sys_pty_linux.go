package process

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

const canPTY = true

// openTerminal opens a pseudo-terminal. This process keeps the master, the process gets the slave.
func openTerminal(p PTY) (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			master.Close()
		}
	}()

	var number, locked int32
	if err := ioctl(master, syscall.TIOCGPTN, unsafe.Pointer(&number)); err != nil {
		return nil, nil, fmt.Errorf("/dev/ptmx: its number: %w", err)
	}
	if err := ioctl(master, syscall.TIOCSPTLCK, unsafe.Pointer(&locked)); err != nil {
		return nil, nil, fmt.Errorf("/dev/ptmx: unlock: %w", err)
	}

	size := [4]uint16{p.Rows, p.Cols}
	if size[0] == 0 {
		size[0] = 24
	}
	if size[1] == 0 {
		size[1] = 80
	}
	if err := ioctl(master, syscall.TIOCSWINSZ, unsafe.Pointer(&size)); err != nil {
		return nil, nil, fmt.Errorf("/dev/ptmx: its size: %w", err)
	}

	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)

	return master, slave, err
}

// ioctl does not take the file out of the poller, as File.Fd would.
func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}

	var errno syscall.Errno
	err = c.Control(func(fd uintptr) { _, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(arg)) })
	if err == nil && errno != 0 {
		err = errno
	}

	return err
}
