package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus/comet/child"
)

// shell runs the coppice program for tests, with a home of its own.
type shell struct {
	t   *testing.T
	dir string
}

func (s shell) command(args ...string) *exec.Cmd {
	c := exec.Command("coppice", args...) // TestMain puts it on the PATH
	c.Dir = s.dir
	c.Env = append(os.Environ(), "HOME="+s.dir, "COPPICE_HOME="+filepath.Join(s.dir, "home"),
		"GORACE=atexit_sleep_ms=10")
	return c
}

// run requires that a command succeeds, and returns what it printed without the last newline.
func (s shell) run(args ...string) string {
	s.t.Helper()
	var stderr bytes.Buffer
	c := s.command(args...)
	c.Stderr = &stderr
	out, err := c.Output()
	require.NoError(s.t, err, "coppice %s: %s", strings.Join(args, " "), stderr.String())
	return strings.TrimSuffix(string(out), "\n")
}

// start starts a command whose output is lost. The returned function waits for its end.
func (s shell) start(args ...string) (wait func()) {
	s.t.Helper()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(s.t, err)
	var stderr bytes.Buffer
	c := s.command(args...)
	c.Stdout, c.Stderr = full, &stderr
	require.NoError(s.t, c.Start())
	s.t.Cleanup(func() { c.Process.Signal(syscall.SIGTERM); c.Wait() })

	return func() {
		s.t.Helper()
		c.Wait()
		full.Close()
		require.Equal(s.t, 1, c.ProcessState.ExitCode(), "coppice %s: %s", strings.Join(args, " "), stderr.String())
		require.Contains(s.t, stderr.String(), "cannot write to standard output: no space left on device; the output "+
			"is lost: make room, or write it elsewhere", strings.Join(args, " "))
	}
}

// tree returns all commands, with those that cobra adds when it executes one.
func tree() *cobra.Command {
	root := newRoot(Program{})
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

// No command exits 0 if what it printed did not reach standard output. Each command of the tree is
// tried, so a new command has to be added here.
func TestLostOutputIsAFailure(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("this system has no /dev/full")
	}

	s := shell{t, t.TempDir()}
	tried := map[string]bool{}
	lost := func(args ...string) {
		t.Helper()
		cmd, _, err := tree().Find(args)
		require.NoError(t, err)
		tried[cmd.CommandPath()] = true
		s.start(args...)()
	}
	silent := func(args ...string) { // it prints nothing, so it loses nothing
		t.Helper()
		cmd, _, err := tree().Find(args)
		require.NoError(t, err)
		tried[cmd.CommandPath()] = true
		require.Empty(t, s.run(args...))
	}
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600))
	}

	// Commands that need no home.
	lost("version")
	lost("help")
	lost("completion")
	for _, sh := range []string{"bash", "zsh", "fish", "powershell"} {
		lost("completion", sh)
	}
	for _, group := range []string{"log", "tx", "snapshot", "testnet", "keys", "keys generate", "keys rotate",
		"streams", "streams parked", "genesis", "peers", "token", "reset", "rounds", "debug"} {
		lost(strings.Fields(group)...)
	}
	for _, leaf := range []string{"spec", "check", "status", "replay"} { // testdata/rounds.txtar: they want a service
		tried["coppice rounds "+leaf] = true
	}
	tried["coppice top"] = true // it draws on a terminal only: TestTopInATerminal
	lost("load", "--help")
	lost("--version")
	lost("__complete", "")
	lost("config", "explain")
	lost("tree", "--spec")
	lost("service", "--home", "/srv/coppice")
	lost("demo")
	lost("soak", "--kills", "1")

	// Commands with a running node.
	lost("init", "--home", "lost")
	key := s.run("validators", "keygen", "gov.key")
	s.run("init", "--listen", "127.0.0.1:0", "--governance-key", key, "--reset-offset", "20")
	lost("config")
	lost("config", "check", "home/coppice.toml")
	ended := s.start("start", "--log-level", "error")
	tried["coppice start"] = true
	s.run("status", "--wait", "60s")

	measured := s.start("debug", "profile") // it takes five seconds
	tried["coppice debug profile"] = true

	var put struct{ ID string }
	require.NoError(t, json.Unmarshal([]byte(s.run("tx", "put", "greeting", "hello", "--json")), &put))
	write("ops", "put more text\n")
	write("raw", s.run("tx", "put", "raw", "tx", "--dry-run"))
	lost("reset", "agree", "--key", "gov.key")
	lost("status")
	lost("status", "--json")
	lost("dashboard")
	lost("tree")
	lost("tree", "--watch")
	lost("tree", "--watch", "--json")
	lost("get", "greeting")
	lost("events")
	lost("events", "--follow", "--after", "1")
	lost("tx", "add", "n", "1")
	lost("tx", "append", "list", "x")
	lost("tx", "cas", "lock", "absent", "me")
	lost("tx", "delete", "n")
	lost("tx", "get", put.ID)
	lost("tx", "ops", "ops")
	lost("tx", "ops", "ops", "--json")
	lost("tx", "put", "key", "value")
	lost("tx", "raw", "raw")
	lost("tx", "read", "greeting")
	lost("tx", "require", "greeting", "equals", "hello")
	lost("load", "--count", "1", "--batch", "1", "--clients", "1")
	s.run("load", "--count", "1", "--batch", "1", "--clients", "1", "--acked", "acked")
	lost("load", "--check", "acked")
	lost("kill", "coppice/node/router")
	s.run("status", "--wait", "60s")
	lost("snapshot", "create")
	lost("snapshot", "list")
	lost("snapshot", "verify")
	lost("snapshot", "export", "lost.snapshot")
	lost("log", "stat", "--interval", "0")
	lost("debug", "dump")
	measured()
	write("out.toml", "kind = \"file\"\ndir = \"../../out\"\n")
	lost("streams", "add", "out.toml", "--dry-run")
	s.run("streams", "add", "out.toml")
	lost("streams", "wait", "out", "1")
	lost("streams", "list")
	lost("streams", "show", "out")
	lost("streams", "preview", "out", "1")
	lost("streams", "verify", "out")
	lost("streams", "export", "out")
	lost("streams", "history", "out")
	lost("streams", "edit", "out", "out.toml", "--dry-run")
	write("copy.toml", "kind = \"file\"\ndir = \"../../copy\"\n")
	lost("streams", "replay", "out", "1..1", "--into", "copy.toml")
	write("odd.toml", "kind = \"file\"\ndir = \"../../odd\"\non_reject = \"park\"\ncodecs = { \"\" = \"u64be\" }\n")
	s.run("streams", "add", "odd.toml")
	s.run("streams", "wait", "odd", "1")
	lost("streams", "parked", "list", "odd")
	lost("streams", "parked", "show", "odd", "1")
	s.run("streams", "pause", "odd")
	lost("streams", "parked", "retry", "odd")
	lost("streams", "parked", "drop", "odd", "--all")
	s.run("streams", "drop", "odd")
	lost("streams", "exempt", "out", "--for", "1m")
	lost("streams", "retry", "out")
	lost("streams", "pause", "out")
	lost("streams", "rewind", "out", "--to", "1")
	lost("streams", "rebuild", "out")
	lost("streams", "resume", "out")
	lost("streams", "drop", "out")
	lost("backup", "lost-backup")
	lost("stop")
	ended()

	// Commands with a stopped home.
	lost("verify")
	lost("log", "verify")
	lost("log", "stat")
	lost("log", "dump")
	lost("log", "export", "-")
	s.run("log", "export", "export")
	s.run("init", "--home", "new")
	genesis, err := os.ReadFile(filepath.Join(s.dir, "home", "genesis.json"))
	require.NoError(t, err)
	write("new/genesis.json", string(genesis))
	lost("log", "import", "export", "--home", "new")
	lost("log", "salvage", "home", "salvaged")
	s.run("backup", "backup")
	lost("backup", "other")
	lost("restore", "backup", "--home", "restored")
	lost("snapshot", "import", "lost.snapshot")
	lost("snapshot", "restore")
	lost("upgrade")
	lost("prune", "--dry-run")
	lost("prune", "--keep-heights", "1000", "--json")
	lost("compact")
	lost("compact", "--json")

	// Commands of CometBFT and of a testnet.
	lost("validators", "keygen", "lost.key")
	lost("testnet", "init", "-n", "1", "--dir", "lost-net")
	s.run("testnet", "init", "-n", "1", "--dir", "net", "--governance-key", key)
	ended = s.start("testnet", "start", "--dir", "net")
	tried["coppice testnet start"] = true
	s.run("testnet", "status", "--dir", "net", "--height", "1", "--wait", "120s")
	at := func(args ...string) []string { return append(args, "--home", "net/node0", "--timeout", "60s") }
	var id struct {
		PubKey string `json:"pub_key"`
	}
	require.NoError(t, json.Unmarshal([]byte(s.run(at("node-id", "--json")...)), &id))
	lost(at("node-id")...)
	lost(at("validators")...)
	lost(at("validators", "update", "--key", "gov.key", id.PubKey+"=11")...)
	lost(at("snapshot", "offer")...)
	lost(at("peers", "list")...)
	lost(at("peers", "add", strings.Repeat("a", 40)+"@127.0.0.1:1")...)
	lost("testnet", "status", "--dir", "net")
	silent("testnet", "partition", "0", "--dir", "net")
	silent("testnet", "partition", "--heal", "--dir", "net")
	lost("testnet", "add", "--dir", "net")
	silent("testnet", "kill", "0", "comet", "--dir", "net")
	lost("testnet", "stop", "--json", "--dir", "net")
	ended()
	lost("testnet", "chaos", "--duration", "1s")

	// Keys of a stopped validator. The signer prints nothing, and runs until it is told to stop.
	s.run("init", "--home", "val", "--consensus", "cometbft")
	lost("token", "rotate", "admin", "--home", "val")
	entry := []string{"genesis", "entry", "--home", "val", "--address", "127.0.0.1:26656"}
	lost(entry...)
	write("val.json", s.run(entry...))
	collect := []string{"genesis", "collect", "--chain-id", "lost", "val.json"}
	lost(collect...)
	write("net.json", s.run(collect...))
	lost("genesis", "install", "net.json", "--home", "val")
	lost("genesis", "check", "--home", "val")
	lost("keys", "show", "--home", "val")
	lost("keys", "rotate", "node", "--home", "val")
	require.NoError(t, os.Remove(filepath.Join(s.dir, "val", "comet", "config", "node_key.json")))
	lost("keys", "generate", "node", "--home", "val")
	lost("keys", "generate", "validator", "next")
	lost("keys", "rotate", "validator", "next", "--home", "val", "--force")
	tried["coppice reset verify"] = true // testdata/reset_comet.txtar: it wants a chain that was reset
	tried["coppice keys signer"] = true
	tried["coppice manager"] = true // it goes on, as start does

	// Resets, of a manager that answers.
	manager := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"message": "done", "status": true, "state": "running", "events": [{"seq": 1, "text": "up"}]}`)
	}))
	defer manager.Close()
	lost("reset", "gentle", "--manager", manager.URL)
	lost("reset", "hard", "--manager", manager.URL)
	lost("reset", "status", "--manager", manager.URL)
	lost("reset", "status", "--watch", "--manager", manager.URL)

	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		// CometBFT's own process prints what its node reads.
		require.True(t, tried[c.CommandPath()] || !c.Runnable() || c.Name() == child.Command, "%q is not tried",
			c.CommandPath())
	}
	walk(tree())
}

// A command whose reader goes away ends by SIGPIPE, which shells do not report. A node goes on.
func TestABrokenPipeEndsTheCommandSilently(t *testing.T) {
	s := shell{t, t.TempDir()}
	s.run("init", "--listen", "127.0.0.1:0")
	broken := func(args ...string) (*exec.Cmd, *bytes.Buffer) {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		require.NoError(t, r.Close())
		defer w.Close()

		var stderr bytes.Buffer
		c := s.command(args...)
		c.Stdout, c.Stderr = w, &stderr
		require.NoError(t, c.Start())
		t.Cleanup(func() { c.Process.Kill() })

		return c, &stderr
	}

	c, said := broken("config")
	require.True(t, errors.As(c.Wait(), new(*exec.ExitError)))
	status := c.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, status.Signaled(), "exit code %d: %s", status.ExitStatus(), said)
	require.Equal(t, syscall.SIGPIPE, status.Signal())
	require.Empty(t, said.String())

	c, said = broken("start", "--log-level", "error")
	s.run("status", "--wait", "60s")
	s.run("stop")
	require.True(t, errors.As(c.Wait(), new(*exec.ExitError)))
	status = c.ProcessState.Sys().(syscall.WaitStatus)
	require.Equal(t, syscall.SIGPIPE, status.Signal())
	require.Contains(t, said.String(), "cannot write to standard output: broken pipe")
}
