// Package require lets a test say which tool outside Go it wants. Where the tool is missing the
// test skips, so that `make test` needs Go only; where COPPICE_REQUIRE names it (a comma list, set
// by .ci/run) the test fails, so that CI never passes by skipping.
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

// tools couples each name that COPPICE_REQUIRE may hold with the programs to look for: any one of
// them will do.
var tools = map[string][]string{
	"chromium":   {"chromium", "chromium-browser", "google-chrome"},
	"erlang":     {"erl"},
	"mount":      {"mount"},
	"postgresql": {"postgres", "pg_ctlcluster"},
	"strace":     {"strace"},
}

// Tool returns the path of the named tool's program, or ends the test: it fails where
// COPPICE_REQUIRE has the name and skips elsewhere. A name that this package does not know, here or
// there, fails always.
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

// Tmpfs mounts a file system in memory of so many bytes until the test ends, and returns its
// directory. It wants the tool "mount", and may be refused to whoever is not root: then the test
// skips, or fails where COPPICE_REQUIRE has "mount".
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

// Demanded tells whether COPPICE_REQUIRE has the name.
func Demanded(name string) bool { return slices.Contains(demanded(), name) }

func demanded() []string {
	return strings.FieldsFunc(os.Getenv(Env), func(r rune) bool { return r == ',' || r == ' ' })
}
