// Package sdnotify tells a service manager the state of the process, by the protocol of
// sd_notify(3): datagrams of NAME=value lines to the Unix socket that NOTIFY_SOCKET names. The
// protocol is systemd's, and other managers speak it too.
//
// A library would not be shorter than this package, because the protocol is one write.
package sdnotify

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Manager is the service manager of this process. A nil Manager means that there is none, and its
// methods do nothing. A Manager is safe for concurrent use.
type Manager struct {
	conn     *net.UnixConn
	watchdog time.Duration
}

// variables are the environment variables by which a service manager speaks to the process that it
// starts. The children of that process must not have them.
var variables = []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}

// Take returns the service manager that the environment names, or nil if it names none. It removes
// the variables from the environment, so that no child process speaks in the name of this one.
func Take() (*Manager, error) {
	env := make(map[string]string)
	for _, name := range variables {
		env[name] = os.Getenv(name)
		_ = os.Unsetenv(name) // it fails only for an invalid name
	}

	name := env["NOTIFY_SOCKET"]
	switch {
	case name == "":
		return nil, nil
	case name[0] != '/' && name[0] != '@':
		return nil, fmt.Errorf("environment NOTIFY_SOCKET: %q: want an absolute path, or @ and an abstract name", name)
	}

	m := &Manager{}

	if usec := env["WATCHDOG_USEC"]; usec != "" {
		n, err := strconv.ParseInt(usec, 10, 64)
		if err != nil || n <= 0 || n > int64(24*time.Hour/time.Microsecond) {
			return nil, fmt.Errorf("environment WATCHDOG_USEC: %q: want a number of microseconds, at most a day", usec)
		}
		if pid := env["WATCHDOG_PID"]; pid == "" || pid == strconv.Itoa(os.Getpid()) {
			m.watchdog = time.Duration(n) * time.Microsecond
		}
	}

	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("environment NOTIFY_SOCKET: %w", err)
	}

	m.conn = conn

	return m, nil
}

// Watchdog returns how long the manager waits for a sign of life before it ends the process, or 0
// if it does not watch.
func (m *Manager) Watchdog() time.Duration {
	if m == nil {
		return 0
	}
	return m.watchdog
}

// Ready says that the start, or a reload, is over.
func (m *Manager) Ready() error { return m.send("READY=1") }

// Reloading says that the configuration is being read again. Ready must follow.
func (m *Manager) Reloading() error { return m.send("RELOADING=1") }

// Stopping says that the process is about to end.
func (m *Manager) Stopping() error { return m.send("STOPPING=1") }

// Alive sends a sign of life to the watchdog.
func (m *Manager) Alive() error { return m.send("WATCHDOG=1") }

// Status sends a line for people about the state of the process.
func (m *Manager) Status(text string) error {
	return m.send("STATUS=" + strings.ReplaceAll(text, "\n", " "))
}

// Extend asks for d more time, from now, for the start, reload or stop that is under way.
func (m *Manager) Extend(d time.Duration) error {
	return m.send("EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(d.Microseconds(), 10))
}

func (m *Manager) send(line string) error {
	if m == nil {
		return nil
	}
	_, err := m.conn.Write([]byte(line))
	return err
}

// Close closes the socket.
func (m *Manager) Close() error {
	if m == nil {
		return nil
	}
	return m.conn.Close()
}
