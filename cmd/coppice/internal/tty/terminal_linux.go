package tty

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Terminal is a terminal in which a program runs.
type Terminal struct {
	t      testing.TB
	master *os.File
	done   chan struct{} // closed when the program has closed the terminal

	mu      sync.Mutex
	screen  *screen
	changed chan struct{} // closed at the next change of the screen
}

// Start runs a command in a terminal of its own, which is closed when the test ends.
func Start(t testing.TB, cmd *exec.Cmd, rows, cols int) *Terminal {
	t.Helper()
	master, slave, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()

	term := &Terminal{t: t, master: master, done: make(chan struct{}), screen: newScreen(rows, cols),
		changed: make(chan struct{})}
	term.setSize(rows, cols)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	go term.read()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		<-term.done
		_ = master.Close()
	})

	return term
}

// open opens a pseudo-terminal.
func open() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}

	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		_ = master.Close()
		return nil, nil, fmt.Errorf("/dev/ptmx: %w", err)
	}

	return master, slave, nil
}

func (t *Terminal) read() {
	defer close(t.done)
	buf := make([]byte, 32<<10)
	for {
		n, err := t.master.Read(buf)
		t.mu.Lock()
		t.screen.write(buf[:n])
		t.wake()
		t.mu.Unlock()
		if err != nil {
			return // EIO: nobody has the terminal any more
		}
	}
}

// wake tells those who wait that the screen has changed; with t.mu.
func (t *Terminal) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *Terminal) setSize(rows, cols int) {
	size := &unix.Winsize{Row: uint16(rows), Col: uint16(cols)}
	if err := unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, size); err != nil {
		t.t.Fatal(err)
	}
}

// Resize changes the size, of which the system tells the program.
func (t *Terminal) Resize(rows, cols int) {
	t.mu.Lock()
	t.screen.resize(rows, cols)
	t.mu.Unlock()
	t.setSize(rows, cols)
}

// Type types keys.
func (t *Terminal) Type(keys string) {
	t.t.Helper()
	if _, err := t.master.WriteString(keys); err != nil {
		t.t.Fatal(err)
	}
}

// Text returns what is on the screen.
func (t *Terminal) Text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.screen.text()
}

// Queries returns the sequences by which the program has asked the terminal something.
func (t *Terminal) Queries() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.screen.queries
}

// Coloured reports whether the program has changed how text looks: its colour, weight or
// background.
func (t *Terminal) Coloured() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.screen.coloured > 0
}

// Wait waits until the screen is as wanted, and returns it.
func (t *Terminal) Wait(ctx context.Context, what string, ok func(screen string) bool) string {
	t.t.Helper()
	for {
		t.mu.Lock()
		text, changed := t.screen.text(), t.changed
		t.mu.Unlock()
		if ok(text) {
			return text
		}

		select {
		case <-changed:
		case <-t.done:
			if text := t.Text(); ok(text) {
				return text
			}
			t.t.Fatalf("the program ended without showing %s:\n%s", what, t.Text())
		case <-ctx.Done():
			t.t.Fatalf("no %s on the screen: %v:\n%s", what, context.Cause(ctx), t.Text())
		}
	}
}
