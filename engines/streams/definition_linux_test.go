package streams

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A file that a definition names is read only if it has an end: a device or a pipe is refused, and
// one that is too long.
func TestOnlyRegularFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	good, pipe := filepath.Join(dir, "good"), filepath.Join(dir, "pipe")
	require.NoError(t, os.WriteFile(good, []byte("12345"), 0o600))
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))

	text, err := readRegular(good, 5)
	require.NoError(t, err)
	require.Equal(t, "12345", string(text))
	_, err = readRegular(good, 4)
	require.ErrorContains(t, err, "more than 4 bytes")
	for _, path := range []string{pipe, "/dev/zero", dir} {
		_, err = readRegular(path, 5)
		require.ErrorContains(t, err, "no regular file")
	}
}
