// Package require lets a test say which tool outside Go it needs. If the tool is missing, the test
// skips, so that `make test` needs Go only. If the environment variable COPPICE_REQUIRE names the
// tool, the test fails instead, so that CI never passes by skipping. The variable is a list with
// commas, and .ci/run sets it.
package require

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Env is the environment variable that lists the tools that must be there.
const Env = "COPPICE_REQUIRE"

// tools has, for each name that COPPICE_REQUIRE may hold, the programs to look for. Any one of them
// is enough.
var tools = map[string][]string{
	"chromium":   {"chromium", "chromium-browser", "google-chrome"},
	"erlang":     {"erl"},
	"kcat":       {"kcat"},
	"mount":      {"mount"},
	"postgresql": {"postgres", "pg_ctlcluster"},
	"promtool":   {"promtool"},
	"strace":     {"strace"},
}

// Tool returns the path of the named tool's program. If the program is missing, Tool fails the test
// if COPPICE_REQUIRE has the name, and skips the test otherwise. Tool always fails the test if this
// package does not know the name, or a name in COPPICE_REQUIRE.
func Tool(t testing.TB, name string) string {
	t.Helper()
	programs, known := tools[name]
	if !known {
		t.Fatalf("require: no tool is called %q", name)
	}

	for _, d := range demanded() {
		if _, known := tools[d]; !known {
			t.Fatalf("require: %s demands %q, which is no tool's name", Env, d)
		}
	}

	for _, p := range programs {
		if path, err := exec.LookPath(p); err == nil {
			return path
		}
	}

	if Demanded(name) {
		t.Fatalf("require: %s is not installed (looked for %s), and %s demands it", name,
			strings.Join(programs, ", "), Env)
	}

	t.Skipf("needs %s: none of %s is installed", name, strings.Join(programs, ", "))

	return ""
}

// Tmpfs mounts a file system of size bytes in memory until the test ends, and returns its
// directory. It needs the tool "mount". If mounting fails, for instance because the user is not
// root, the test skips, or fails if COPPICE_REQUIRE has "mount".
func Tmpfs(t testing.TB, size int64) string {
	t.Helper()
	mount := Tool(t, "mount")
	dir := t.TempDir()
	if out, err := exec.Command(mount, "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", size), "tmpfs",
		dir).CombinedOutput(); err != nil {
		if Demanded("mount") {
			t.Fatalf("require: mount: %v: %s", err, out)
		}
		t.Skipf("needs to mount a file system: %v: %s", err, out)
	}

	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})

	return dir
}

// Demanded reports whether COPPICE_REQUIRE has the name.
func Demanded(name string) bool { return slices.Contains(demanded(), name) }

func demanded() []string {
	return strings.FieldsFunc(os.Getenv(Env), func(r rune) bool { return r == ',' || r == ' ' })
}
