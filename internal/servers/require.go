package servers

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// requireEnv lists the tools that must be there, as eventlog/internal/require documents it. That
// package is internal to its module.
const requireEnv = "COPPICE_REQUIRE"

// tools has the program to look for by the name in COPPICE_REQUIRE.
var tools = map[string]string{
	"postgresql": filepath.Join(postgresBin, "postgres"),
	"kcat":       "kcat",
}

// Require returns the path of the named tool. If it is missing, the test skips, or fails if
// COPPICE_REQUIRE has the name.
func Require(t testing.TB, name string) string {
	t.Helper()
	program, known := tools[name]
	if !known {
		t.Fatalf("servers: no tool is called %q", name)
	}
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}

	demanded := strings.FieldsFunc(os.Getenv(requireEnv), func(r rune) bool { return r == ',' || r == ' ' })
	if slices.Contains(demanded, name) {
		t.Fatalf("servers: %s is not installed (looked for %s), and %s demands it", name, program, requireEnv)
	}
	t.Skipf("needs %s: %s is not installed", name, program)

	return ""
}
