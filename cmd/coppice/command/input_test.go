package command

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A file without an end is refused once it has more than there may be. It took all memory.
func TestADocumentWithoutEndIsRefused(t *testing.T) {
	endless := filepath.Join(t.TempDir(), "x.toml")
	require.NoError(t, os.Symlink("/dev/zero", endless))
	_, err := readDocument(endless, "a definition", 1000)
	require.ErrorContains(t, err, "x.toml has more than 1000 bytes, want a definition of at most 1000")

	long := filepath.Join(t.TempDir(), "long.toml")
	require.NoError(t, os.WriteFile(long, make([]byte, 1001), 0o600))
	_, err = readDocument(long, "a definition", 1000)
	require.ErrorContains(t, err, "long.toml has 1001 bytes, want a definition of at most 1000")

	require.NoError(t, os.Truncate(long, 1000))
	b, err := readDocument(long, "a definition", 1000)
	require.NoError(t, err)
	require.Len(t, b, 1000)
}
