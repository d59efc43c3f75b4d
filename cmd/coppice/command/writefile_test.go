package command

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/node/exit"
)

// Of two commands that write one file, the first goes on, and the other one says so. A file that a
// killed process left behind is replaced.
func TestOnlyOneProcessWritesAFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(name+partialSuffix, []byte("left behind by another process"), 0o600))
	put := func(text string) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		}
	}

	require.NoError(t, writeFile(t.Context(), name, func(w io.Writer) error {
		err := writeFile(t.Context(), name, put("second"))
		require.Equal(t, exit.HomeInUse, exit.Code(err), "%v", err)
		require.EqualError(t, err, "another process is writing "+name)
		return put("first")(w)
	}))
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, "first", string(data))
	require.ErrorContains(t, writeFile(t.Context(), name, put("third")), "is there already")

	failed := errors.New("failed")
	fail := func(io.Writer) error { return failed }
	require.ErrorIs(t, writeFile(t.Context(), filepath.Join(dir, "other"), fail), failed)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
}
