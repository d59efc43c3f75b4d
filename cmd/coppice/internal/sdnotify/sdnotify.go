// Package sdnotify tells a service manager how the process is, by the protocol of sd_notify(3):
// datagrams of NAME=value lines to the Unix socket that NOTIFY_SOCKET names. It is systemd's, and
// others speak it too.
//
// A library would be as long as this: the protocol is one write.
package sdnotify

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Manager is the service manager of this process. The methods of a nil Manager do nothing: nobody
// manages the process. It is safe for concurrent use.
type Manager struct {
	conn     *net.UnixConn
	watchdog time.Duration
}

// Variables that a service manager sets for the process that it starts, and for no child of that.
var variables = []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}

// Take takes the service manager out of the environment, so that a child process does not speak in
// this one's name. It is nil where the environment names none.
func Take() (*Manager, error) {
	env := make(map[string]string)
	for _, name := range variables {
		env[name] = os.Getenv(name)
		_ = os.Unsetenv(name) // it fails where a name can be none
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

// Watchdog is how long the manager waits for a sign of life before it ends the process; 0: it does
// not watch.
func (m *Manager) Watchdog() time.Duration {
	if m == nil {
		return 0
	}
	return m.watchdog
}

// Ready tells that the start, or a reload, is over.
func (m *Manager) Ready() error { return m.send("READY=1") }

// Reloading tells that the configuration is being read again. Ready must follow.
func (m *Manager) Reloading() error { return m.send("RELOADING=1") }

// Stopping tells that the process is about to end.
func (m *Manager) Stopping() error { return m.send("STOPPING=1") }

// Alive is the sign of life for the watchdog.
func (m *Manager) Alive() error { return m.send("WATCHDOG=1") }

// Status is a line for people on how the process is.
func (m *Manager) Status(text string) error {
	return m.send("STATUS=" + strings.ReplaceAll(text, "\n", " "))
}

// Extend asks for so much more time, from now, for the start, the reload or the stop that is under
// way.
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

// Close gives the socket back.
func (m *Manager) Close() error {
	if m == nil {
		return nil
	}
	return m.conn.Close()
}
