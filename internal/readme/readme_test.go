//go:build unix

package readme_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// document is a text whose commands are run.
type document struct {
	path string

	// instead maps a line to the form in which the test runs it. Each line must be in the text.
	instead map[string]string
}

const install = "go install ./cmd/coppice && test -x $(command -v coppice)"

var documents = []document{
	{"README.md", map[string]string{
		"go run ./cmd/coppice demo": "go run ./cmd/coppice demo --quick", // faster
		"make test":                 "make -n test >/dev/null",           // make test runs this test
		"coppice init":              "coppice init --listen 127.0.0.1:0", // the default port may be in use
		"go install ./cmd/coppice":  install,
	}},
	{"docs/operating.md", map[string]string{
		"coppice init --chain-id orchard": "coppice init --chain-id orchard --listen 127.0.0.1:0", // as above
		"go install ./cmd/coppice":        install,
	}},
}

const finished = "all commands have run"

// script returns one shell script of all sh blocks, so that each block continues where the previous
// one stopped.
func (d document) script(blocks []block) (string, error) {
	var b strings.Builder
	unused := make(map[string]bool)
	for line := range d.instead {
		unused[line] = true
	}

	b.WriteString("set -eu\n")

	for _, block := range blocks {
		if block.lang != "sh" {
			continue
		}

		n := block.line

		for line := range strings.Lines(block.text) {
			line = strings.TrimSuffix(line, "\n")
			fmt.Fprintf(&b, "echo '%s:%d'\n", d.path, n)
			if other, ok := d.instead[line]; ok {
				delete(unused, line)
				line = other
			}
			b.WriteString(line + "\n")
			n++
		}
	}

	for line := range unused {
		return "", fmt.Errorf("%s no longer has the line %q: remove it from instead", d.path, line)
	}

	b.WriteString("echo '" + finished + "'\n")

	return b.String(), nil
}

// Every command works as written, in order, on a machine that has Go and a fresh home directory.
func TestCommands(t *testing.T) {
	for _, d := range documents {
		t.Run(d.path, func(t *testing.T) { d.run(t) })
	}
}

func (d document) run(t *testing.T) {
	text, err := d.script(blocksOf(t, d.path))
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()

	cmd := exec.CommandContext(ctx, "sh")
	cmd.Stdin = strings.NewReader(text)
	cmd.Dir = root(t)
	cmd.Env = environment(t)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// A node that a failed script leaves behind is in the script's process group and ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	err = cmd.Wait()
	left := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if err != nil || !strings.Contains(out.String(), finished) {
		t.Fatalf("the commands of %s failed (%v):\n%s", d.path, err, out.String())
	}
	if !errors.Is(left, syscall.ESRCH) {
		t.Errorf("the commands of %s leave processes behind (%v)", d.path, left)
	}
}

// environment returns this process's environment, with its own home directory and directory of
// programs, and with Go's existing caches.
func environment(t *testing.T) []string {
	t.Helper()
	home, err := os.MkdirTemp("", "readme") // a short path: t.TempDir contains the test's name
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	env := os.Environ()

	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOFLAGS", "GOPROXY"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}

	// make test builds the commands with the race detector, which would sleep for a second at each
	// exit.
	bin := filepath.Join(home, "bin")
	return append(env, "GORACE=atexit_sleep_ms=10", "HOME="+home,
		"COPPICE_HOME="+filepath.Join(home, ".coppice"), "GOBIN="+bin, "PATH="+bin+":"+os.Getenv("PATH"))
}

func TestScriptRunsEachLine(t *testing.T) {
	d := documents[0]
	var all []string
	for line := range d.instead {
		all = append(all, line)
	}

	got, err := d.script([]block{{"go", 1, "package x\n"}, {"sh", 7, strings.Join(all, "\n") + "\nfalse\n"}})
	if err != nil {
		t.Fatal(err)
	}

	for _, want := range []string{"set -eu\n", "echo 'README.md:7'\n", "\nfalse\n", "--quick"} {
		if !strings.Contains(got, want) {
			t.Errorf("the script lacks %q:\n%s", want, got)
		}
	}

	if strings.Contains(got, "package x") {
		t.Error("a Go block must not become a command")
	}
	if _, err := d.script(nil); err == nil {
		t.Error("a line in instead that the README lacks must be an error")
	}
}
