package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tutorial returns the fenced blocks of the tutorial in a language.
func tutorial(t *testing.T, lang string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/tutorial-rounds.md")
	require.NoError(t, err)

	for i, part := range strings.Split(string(text), "```") {
		if block, ok := strings.CutPrefix(part, lang+"\n"); ok && i%2 == 1 {
			blocks = append(blocks, block)
		}
	}

	require.NotEmpty(t, blocks)
	return blocks
}

// The Go code of the tutorial is that of the examples.
func TestTheTutorialsCodeIsTheExamples(t *testing.T) {
	files, err := filepath.Glob("../[lo]*/*.go") // lunch and oracle
	require.NoError(t, err)
	var code strings.Builder
	for _, path := range files {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		code.Write(text)
	}

	for _, block := range tutorial(t, "go") {
		if !strings.Contains(code.String(), block) {
			t.Errorf("docs/tutorial-rounds.md has code that no example has; copy it from there:\n%s", block)
		}
	}
}

// tempDir returns a directory whose path is short enough for the sockets in it.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "oracle")
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// script returns a command that runs a script. It and all its children end with the test.
func script(t *testing.T, text string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)

	cmd := exec.CommandContext(ctx, "sh", "-euc", text)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=10")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second

	return cmd
}

// The commands of the tutorial work as written, with one node instead of four, and fewer reports.
func TestTheTutorialsCommandsWork(t *testing.T) {
	dir := tempDir(t)
	text := strings.Join(tutorial(t, "sh"), "")
	for _, c := range [][2]string{
		{"go run ./examples/oracle\n", "oracle run -nodes 1 -reports 1\n"},
		{"go run ./examples/oracle ", "oracle "},
		{"-reports 5", "-nodes 1 -reports 2"},
		{"testnet kill 2", "testnet kill 0"},
		{"/node2", "/node0"},
		{"/tmp/oracle-net", dir},
	} {
		require.Contains(t, text, c[0], "the tutorial no longer has it")
		text = strings.ReplaceAll(text, c[0], c[1])
	}

	out, err := script(t, text).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "OracleService has no fault")
	require.Len(t, readReports(t, filepath.Join(dir, "reports")), 2)
	require.Equal(t, 2, bytes.Count(out, []byte("report 1: ")), "%s", out)
	require.Equal(t, 1, bytes.Count(out, []byte("report 2: ")), "%s", out)
}
