//go:build linux

package process_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
)

// What is executed is the open file, also when another one has taken its path.
func TestExecutable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	copyFile(t, "/bin/echo", path)
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()

	require.NoError(t, os.Rename(path, path+".old"))
	copyFile(t, "/bin/false", path)

	for _, extra := range [][]*os.File{nil, {f, f, f}} {
		o := finish(t, process.Spec{Name: "echo", Path: path, Args: []string{"the", "first"}, Executable: f,
			ExtraFiles: extra})
		require.Equal(t, []string{"the first"}, o.out)
		require.Equal(t, supervisor.Normal, o.exit.Class)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, b, 0o700))
}

func TestLimits(t *testing.T) {
	// The limits are set after the fork, and the input is written after that.
	spec := shell("cat; ulimit -d; ulimit -n; ulimit -c")
	spec.Stdin = func(context.Context, io.Writer) error { return nil }
	spec.Limits = process.Limits{Memory: 64 << 20, Files: 17, NoCore: true}
	o := finish(t, spec)
	require.Equal(t, "65536 17 0", strings.Join(o.out, " "))
}
