//go:build unix

package eventlog_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
)

// TestStrangeFiles: a directory, a pipe or a dangling link in place of a file of the log gives an
// error that names it. It never makes the log wait.
func TestStrangeFiles(t *testing.T) {
	make := map[string]func(name string) error{
		"directory": func(name string) error { return os.Mkdir(name, 0o755) },
		"pipe":      func(name string) error { return syscall.Mkfifo(name, 0o644) },
		"link":      func(name string) error { return os.Symlink("nowhere", name) },
	}

	for kind, make := range make {
		for _, name := range []string{"0000000000000001.seg", "EXTENT"} {
			t.Run(kind+" "+name, func(t *testing.T) {
				dir := t.TempDir()
				l, err := eventlog.Open(dir, eventlog.Options{})
				require.NoError(t, err)
				_, err = l.AppendWait(t.Context(), recordAt(1))
				require.NoError(t, errors.Join(err, l.Close()))
				path := filepath.Join(dir, name)
				require.NoError(t, os.Remove(path))
				require.NoError(t, make(path))
				_, err = eventlog.Open(dir, eventlog.Options{})
				require.ErrorContains(t, err, name)
				_, err = eventlog.Verify(dir, eventlog.Options{})
				require.ErrorContains(t, err, name)
				_, err = eventlog.Salvage(t.Context(), dir, filepath.Join(t.TempDir(), "to"), eventlog.Options{})
				if name != "EXTENT" { // the segment is salvaged without it
					require.ErrorContains(t, err, name)
				}
			})
		}
	}

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	_, err := eventlog.Open(file, eventlog.Options{})
	require.ErrorContains(t, err, file)
}
