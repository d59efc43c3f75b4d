package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/plugin"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
)

// The sink as a part of a program.
func TestTheSinkKeepsTheContract(t *testing.T) {
	sinktest.Run(t, Factory(), sinktest.Rig{Target: func(t testing.TB) sinktest.Target {
		return target(t, fmt.Sprintf("kind = \"blockfiles\"\ndir = %q\n", filepath.Join(t.TempDir(), "blocks")))
	}})
}

// The same sink as a plugin, in a process of its own. Items 11 and 72.
func TestThePluginKeepsTheContract(t *testing.T) {
	program := build(t)
	every := sinktest.Thinned(7)
	sinktest.Run(t, plugin.Factory(), sinktest.Rig{Every: every, Target: func(t testing.TB) sinktest.Target {
		return target(t, definition(t, program, filepath.Join(t.TempDir(), "blocks")))
	}})
}

// build builds the plugin as its operator would.
func build(t testing.TB) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "blockfiles")
	cmd := exec.Command("go", "build", "-o", program, ".")
	cmd.Env = append(os.Environ(), "GOFLAGS=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)

	return program
}

func definition(t testing.TB, program, dir string) string {
	t.Helper()
	b, err := os.ReadFile(program)
	require.NoError(t, err)

	return fmt.Sprintf("kind = \"plugin\"\npath = %q\nsha256 = \"%x\"\nplugin = \"blockfiles\"\n[settings]\ndir = %q\n",
		program, sha256.Sum256(b), dir)
}

func target(t testing.TB, text string) sinktest.Target {
	t.Helper()
	file := filepath.Join(t.TempDir(), "blocks.toml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	d, err := streams.ParseDefinition(file, []byte(text))
	require.NoError(t, err)

	return sinktest.Target{Definition: d, Secrets: streams.NewSecrets(filepath.Dir(file))}
}

// Items 25 and 58: on the way through the process.
func TestALargeBlockNeedsLittleMemory(t *testing.T) {
	sinktest.Large(t, plugin.Factory(), target(t, definition(t, build(t), filepath.Join(t.TempDir(), "blocks"))))
}
