//go:build !linux

package command

import "github.com/rogpeppe/go-internal/testscript"

func canMount() bool { return false }

func tmpfs(ts *testscript.TestScript, _ bool, _ []string) { ts.Fatalf("tmpfs: only on linux") }

func readonly(ts *testscript.TestScript, _ bool, _ []string) { ts.Fatalf("readonly: only on linux") }
