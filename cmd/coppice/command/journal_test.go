package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A journal that cannot be written whole does not replace the one before: the batch that it names
// may be under way.
func TestAJournalIsReplacedWholeOrNotAtAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	tx := &txFile{name: "orders.txt", journal: path}
	before := fileJournal{File: "orders.txt", Next: 7}
	require.NoError(t, tx.save(before))

	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &limit))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 100, Max: limit.Max}))
	err := tx.save(fileJournal{File: "orders.txt", Next: 8, Sum: strings.Repeat("0", 1000)})
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &limit))
	require.ErrorIs(t, err, unix.EFBIG)

	var j fileJournal
	require.NoError(t, tx.load(&j))
	require.Equal(t, before, j)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}
