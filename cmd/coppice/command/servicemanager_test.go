package command

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/node/exit"
)

// patience is how long a test waits for a line or a datagram.
const patience = 30 * time.Second

// nodeProcess is a node that runs as a process of the real program.
type nodeProcess struct {
	t      *testing.T
	home   string
	env    []string
	cmd    *exec.Cmd
	lines  chan string // of standard error
	mu     sync.Mutex
	stderr bytes.Buffer
}

// newProcess makes a home, for a process that start starts.
func newProcess(t *testing.T) *nodeProcess {
	t.Helper()
	home := filepath.Join(t.TempDir(), "home")
	p := &nodeProcess{t: t, home: home, env: append(os.Environ(), "COPPICE_HOME="+home, "GORACE=atexit_sleep_ms=10")}
	p.run("init", "--listen", "127.0.0.1:0")
	return p
}

// run runs another command of the program on the home and returns its output.
func (p *nodeProcess) run(args ...string) string {
	p.t.Helper()
	cmd := exec.Command("coppice", args...)
	cmd.Env = p.env
	out, err := cmd.CombinedOutput()
	require.NoError(p.t, err, "coppice %v: %s", args, out)
	return string(out)
}

func (p *nodeProcess) start(env []string, args ...string) {
	p.t.Helper()
	p.cmd = exec.Command("coppice", append([]string{"start"}, args...)...)
	p.cmd.Env = append(p.env, env...)
	pipe, err := p.cmd.StderrPipe()
	require.NoError(p.t, err)
	p.lines = make(chan string, 10_000)
	require.NoError(p.t, p.cmd.Start())
	p.t.Cleanup(func() { p.cmd.Process.Kill() })
	go func(lines chan string) {
		defer close(lines)
		for s := bufio.NewScanner(pipe); s.Scan(); {
			p.mu.Lock()
			p.stderr.WriteString(s.Text() + "\n")
			p.mu.Unlock()
			lines <- s.Text()
		}
	}(p.lines)
}

// says waits for a line of standard error that contains text.
func (p *nodeProcess) says(text string) string {
	p.t.Helper()
	late := time.After(patience)

	for {
		select {
		case l, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("the node ended and did not say %q:\n%s", text, p.said())
			}
			if strings.Contains(l, text) {
				return l
			}
		case <-late:
			p.t.Fatalf("the node does not say %q:\n%s", text, p.said())
		}
	}
}

func (p *nodeProcess) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

func (p *nodeProcess) signal(s os.Signal) { require.NoError(p.t, p.cmd.Process.Signal(s)) }

// exit waits for the end of the process and returns its exit code.
func (p *nodeProcess) exit() int {
	p.t.Helper()
	for range p.lines { // read to the end, because Wait closes the pipe
	}

	err := p.cmd.Wait()
	exit := new(exec.ExitError)
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}

	return p.cmd.ProcessState.ExitCode()
}

// manager is the socket of a service manager.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	name string
	seen []string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") // short, because a socket's path has at most 107 bytes
	require.NoError(t, err)
	m := &manager{t: t, name: filepath.Join(dir, "s")}
	m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.name, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() {
		m.conn.Close()
		os.RemoveAll(dir)
	})

	return m
}

// gets waits for the next datagram that begins with want and returns it. It ignores others.
func (m *manager) gets(want string) string {
	m.t.Helper()
	require.NoError(m.t, m.conn.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, 4096)

	for {
		n, err := m.conn.Read(b)
		require.NoError(m.t, err, "no %s; there were %q", want, m.seen)
		m.seen = append(m.seen, string(b[:n]))
		if strings.HasPrefix(string(b[:n]), want) {
			return string(b[:n])
		}
	}
}

// sd_notify(3): a service manager learns when the node is ready, reads its configuration again, is
// alive, and stops.
func TestTheServiceManagerIsTold(t *testing.T) {
	p, m := newProcess(t), newManager(t)
	p.start([]string{"NOTIFY_SOCKET=" + m.name, "WATCHDOG_USEC=300000", "WATCHDOG_PID="}, "--log-level", "warn")
	m.gets("STATUS=starting: ")
	m.gets("READY=1")
	require.NotContains(t, m.seen[:len(m.seen)-1], "READY=1")
	p.run("status") // succeeds only if the node is ready
	m.gets("STATUS=ready")
	m.gets("WATCHDOG=1")
	m.gets("WATCHDOG=1")
	m.gets("WATCHDOG=1")

	p.signal(syscall.SIGHUP)
	m.gets("RELOADING=1")
	m.gets("READY=1")

	p.run("kill", "coppice/node/router")
	m.gets("STATUS=down: coppice/node")
	m.gets("STATUS=ready")

	p.signal(syscall.SIGTERM)
	m.gets("STOPPING=1")
	m.gets("STATUS=stopping")
	require.Zero(t, p.exit(), p.said())
	p.run("verify")
}

func TestABadServiceManagerIsNamed(t *testing.T) {
	for env, want := range map[string]string{
		"NOTIFY_SOCKET=here":            `environment NOTIFY_SOCKET: "here": want an absolute path`,
		"NOTIFY_SOCKET=/nowhere/at/all": "environment NOTIFY_SOCKET: dial",
	} {
		p := newProcess(t)
		p.start([]string{env})
		require.Equal(t, 3, p.exit())
		require.Contains(t, p.said(), want)
	}

	p, m := newProcess(t), newManager(t)
	p.start([]string{"NOTIFY_SOCKET=" + m.name, "WATCHDOG_USEC=often"})
	require.Equal(t, 3, p.exit())
	require.Contains(t, p.said(), `environment WATCHDOG_USEC: "often": want a number of microseconds`)
}

// On SIGHUP the node reads the configuration again. It applies what can change, logs what cannot,
// and changes nothing if the configuration is not valid.
func TestHangupReadsTheConfigurationAgain(t *testing.T) {
	p := newProcess(t)
	file := filepath.Join(p.home, "coppice.toml")
	write := func(text string) {
		require.NoError(t, os.WriteFile(file, []byte("listen = \"127.0.0.1:0\"\n"+text), 0o644))
	}
	p.start(nil, "--log-format", "json", "--set", "pool.max_eager=100")
	p.says(`"msg":"listening"`)
	p.says(`"msg":"ready"`)

	write("[pool]\nmax_txs = 77\nmax_eager = 200\n[diagnostics]\nlevel = \"debug\"\n")
	p.signal(syscall.SIGHUP)
	require.Contains(t, p.says("takes effect at the next start"),
		`"key":"pool.max_txs","running":"200000","configured":"77"`)
	require.Contains(t, p.says("configuration changed"), `"key":"diagnostics.level","was":"\"info\"","is":"\"debug\""`)
	p.says("configuration read again")
	require.NotContains(t, p.said(), "max_eager", "a flag still overrides the file")

	write("[pool]\nmax_txs = 0\n")
	p.signal(syscall.SIGHUP)
	require.Contains(t, p.says("configuration was not read again"), "pool.max_txs: 0: want a whole number")
	p.run("status", "--wait", "20s")

	p.signal(syscall.SIGINT)
	require.Zero(t, p.exit())

	for _, secret := range []string{"admin.token", "submit.token"} {
		token, err := os.ReadFile(filepath.Join(p.home, secret))
		require.NoError(t, err)
		require.NotContains(t, p.said(), strings.TrimSpace(string(token)), "diagnostics at debug hold a token")
	}
}

// I9: a stop is in order and bounded. A second signal ends the process at once.
func TestASecondSignalForces(t *testing.T) {
	p, m := newProcess(t), newManager(t)
	p.start([]string{"NOTIFY_SOCKET=" + m.name}, "--log-level", "error")
	m.gets("READY=1")
	p.run("kill", "coppice/node/transactions/storage", "--how", "hang", "--release", "1m")
	p.signal(syscall.SIGINT)
	m.gets("STOPPING=1")
	p.signal(syscall.SIGTERM)
	require.Equal(t, 143, p.exit(), p.said())
	require.Contains(t, p.said(), "second terminated: exiting at once")
	p.run("verify") // nothing is damaged
}

// packaging/coppice.service is the output of "coppice service".
func TestTheUnitIsTheProgramsOwn(t *testing.T) {
	const path = "../../../packaging/coppice.service"
	out, err := exec.Command("coppice", "service", "--home", "/var/lib/coppice", "--binary",
		"/usr/bin/coppice").Output()
	require.NoError(t, err)
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(out),
		"run: coppice service --home /var/lib/coppice --binary /usr/bin/coppice > packaging/coppice.service")

	// Item 73: a node that a gate has halted is not started again in a loop.
	require.Contains(t, string(out), fmt.Sprintf("\nRestartPreventExitStatus=%d %d %d\n", exit.Config, exit.Damage,
		exit.Halted))
}

// If there is a systemd, it finds nothing wrong with the unit.
func TestSystemdTakesTheUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("there is no systemd-analyze here; only the unit's text is compared")
		return
	}

	program, err := exec.LookPath("coppice")
	require.NoError(t, err)
	text, err := exec.Command("coppice", "service", "--home", "/var/lib/coppice", "--binary", program, "--user",
		"root").Output()
	require.NoError(t, err)
	unit := filepath.Join(t.TempDir(), "coppice.service")
	require.NoError(t, os.WriteFile(unit, text, 0o644))
	out, err := exec.Command(analyze, "verify", unit).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NotContains(t, string(out), "coppice.service:", "%s", out)
}
