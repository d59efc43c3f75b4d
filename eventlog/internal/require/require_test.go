package require_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/coppice-go/coppice/eventlog/internal/require"
)

// outcome runs f as a test and tells how it ended.
type outcome struct {
	testing.TB
	failed, skipped bool
}

func (o *outcome) Helper()               { /* no stack to tidy */ }
func (o *outcome) Fatalf(string, ...any) { o.failed = true; panic(o) }
func (o *outcome) Skipf(string, ...any)  { o.skipped = true; panic(o) }

func run(name string) (path string, o *outcome) {
	o = &outcome{}
	defer func() {
		if r := recover(); r != nil && r != any(o) {
			panic(r)
		}
	}()
	return require.Tool(o, name), o
}

func TestTool(t *testing.T) {
	empty := t.TempDir()
	t.Setenv("PATH", empty)

	t.Setenv(require.Env, "")
	if _, o := run("strace"); !o.skipped {
		t.Error("a missing tool that nobody demands must skip")
	}

	t.Setenv(require.Env, "erlang,strace")
	if _, o := run("strace"); !o.failed {
		t.Error("a missing tool that is demanded must fail")
	}
	if _, o := run("postgresql"); !o.skipped {
		t.Error("a missing tool must skip when another one is demanded")
	}
	if _, o := run("abacus"); !o.failed {
		t.Error("an unknown name must fail")
	}

	t.Setenv(require.Env, "erlnag")
	if _, o := run("strace"); !o.failed {
		t.Error("a demand for an unknown name must fail")
	}

	t.Setenv(require.Env, "strace")
	want := filepath.Join(empty, "strace")
	if err := os.WriteFile(want, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if path, o := run("strace"); path != want || o.failed || o.skipped {
		t.Errorf("found %q, want %q", path, want)
	}
}
