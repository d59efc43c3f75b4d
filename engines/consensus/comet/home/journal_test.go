package home

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
)

// journalOf returns the path and the content of the journal of a database.
func journalOf(t *testing.T, c *cfg.Config, database string) (path string, content []byte) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(databaseDir(c, database), "*.log"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	content, err = os.ReadFile(found[0])
	require.NoError(t, err)
	return found[0], content
}

// goleveldb skips what is damaged in a journal. Neither a start nor a copy may: the blocks there
// would be gone, and nothing would say so. What a power failure has left of the last write is no
// damage.
func TestNeitherAStartNorACopySkipsADamagedJournal(t *testing.T) {
	for _, database := range []string{blockDatabase, stateDatabase} {
		home, c := testChain(t, noEvidence, time.Hour)
		path, whole := journalOf(t, c, database)
		require.NoError(t, CheckChainData(c, testBlocks))

		damaged := bytes.Clone(whole)
		damaged[len(damaged)/2] ^= 64
		require.NoError(t, os.WriteFile(path, damaged, 0o600))
		require.ErrorIs(t, CheckChainData(c, testBlocks), ErrChainDamage, database)
		require.ErrorContains(t, CheckChainData(c, testBlocks), filepath.Base(path))
		_, _, err := OpenDatabases(home)
		require.ErrorIs(t, err, ErrChainDamage, database)
		require.ErrorContains(t, err, filepath.Base(path))

		torn := bytes.Clone(whole)
		torn[len(torn)-1] ^= 64
		require.NoError(t, os.WriteFile(path, torn, 0o600))
		require.NoError(t, CheckChainData(c, testBlocks), database)
		_, _, err = OpenDatabases(home)
		require.ErrorIs(t, err, ErrChainDamage, "a copy is of whole databases")
	}
}

// A chain that lacks a block in the middle, or its commit, is damaged, although its ends are there.
func TestEachBlockIsThere(t *testing.T) {
	for _, gone := range []string{"H:20", "P:20:0", "C:20", "C:1"} {
		_, c := testChain(t, noEvidence, time.Hour)
		s := chain.State{Height: testBlocks}
		require.NoError(t, verifyChain(t.Context(), c, s))

		blocks, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: blockDatabase, Config: c})
		require.NoError(t, err)
		has, err := blocks.Has([]byte(gone))
		require.NoError(t, err)
		require.True(t, has, gone)
		require.NoError(t, blocks.DeleteSync([]byte(gone)))
		require.NoError(t, blocks.Close())

		err = verifyChain(t.Context(), c, s)
		require.ErrorIs(t, err, ErrChainDamage, gone)
		require.ErrorContains(t, err, "is missing, of blocks 1 to 40")
	}
}
