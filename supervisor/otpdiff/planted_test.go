package otpdiff

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A bug on one side is found, made small and printed for both sides, and the process fails. The bug
// here inverts an answer.
func TestPlantedDifference(t *testing.T) {
	needErlang(t)
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestDifferential$", "-seed", "1", "-n",
		"400", "-plant")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.True(t, errors.As(err, &exit), "%v\n%s", err, out)
	require.Equal(t, 1, exit.ExitCode())

	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	last := regexp.MustCompile(`^otp-diff: seed 1: (\d+) histories ran, (\d+) differ$`).FindStringSubmatch(
		lines[len(lines)-1])
	require.NotNil(t, last, "%s", out)
	require.Equal(t, "400", last[1])
	require.NotEqual(t, "0", last[2])
	require.Contains(t, string(out), "coverage: of 400 histories")

	// The difference itself, side by side.
	require.Regexp(t, `(?m)^ *! answer \d+: restarting +answer \d+: ok$`, string(out))
	// The script for Erlang runs, and prints the trace that was compared.
	script := regexp.MustCompile(`erlc [^']*'[^']*'`).FindString(string(out))
	require.NotEmpty(t, script, "%s", out)
	require.LessOrEqual(t, strings.Count(script, "{start_child,")+strings.Count(script, "{die,")+strings.Count(script,
		"{hold,"), 4, "not made small: %s", script)
	dir := t.TempDir()
	traced, err := exec.CommandContext(t.Context(), "sh", "-c",
		strings.ReplaceAll(script, "/tmp", dir)).CombinedOutput()
	require.NoError(t, err, "%s", traced)
	require.Regexp(t, `(?m)^answer \d+: restarting$`, string(traced))
	// The one for Go is an entry of named.
	require.Regexp(t, `(?m)^ *\{"", History\{Root: Node\{ID: "root", .*Op: "stop", Reason: "\w+"\}\}\}\},$`,
		string(out))
}
