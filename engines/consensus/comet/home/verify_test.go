package home

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus"
)

// makeDatabase makes a database of CometBFT with a table and a journal, and returns its directory.
func makeDatabase(t *testing.T, c *cfg.Config, name string) string {
	t.Helper()
	for run := range 2 { // the second one makes a table of the first one's journal
		db, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: name, Config: c})
		require.NoError(t, err)
		for i := range 200 {
			key := fmt.Appendf(nil, "%s %d %d", name, run, i)
			require.NoError(t, db.SetSync(key, []byte(strings.Repeat(string(key), 20))))
		}
		require.NoError(t, db.Close())
	}

	return databaseDir(c, name)
}

// contents returns what a start of CometBFT would find in a database.
func contents(dir string) (map[string]string, error) {
	db, err := openReadOnly(dir)
	if err != nil {
		return nil, err
	}
	defer db.Close()

	all := make(map[string]string)
	it := db.DB().NewIterator(nil, nil)
	defer it.Release()
	for it.Next() {
		all[string(it.Key())] = string(it.Value())
	}
	return all, it.Error()
}

// A flipped bit of a database is found, or the database has the same contents with it.
func TestEveryByteOfADatabaseIsVerified(t *testing.T) {
	c := cfg.DefaultConfig()
	c.DBBackend, c.DBPath = "goleveldb", t.TempDir()
	dir := makeDatabase(t, c, blockDatabase)
	require.NoError(t, verifyDatabase(t.Context(), dir))
	want, err := contents(dir)
	require.NoError(t, err)
	require.Len(t, want, 400)

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	found := make(map[string]int)

	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		step := max(1, len(data)/100) | 1 // odd, so that all bits have their turn

		for at := 0; at < len(data); at += step {
			flipped := slices.Clone(data)
			flipped[at] ^= 1 << (at % 8)
			require.NoError(t, os.WriteFile(path, flipped, 0o600))

			if err := verifyDatabase(t.Context(), dir); err != nil {
				require.ErrorIs(t, err, ErrChainDamage)
				require.ErrorContains(t, err, dir)
				found[filepath.Ext(e.Name())]++
				continue
			}

			have, err := contents(dir)
			require.NoError(t, err, "%s, byte %d of %d", e.Name(), at, len(data))
			require.True(t, maps.Equal(want, have), "%s, byte %d of %d", e.Name(), at, len(data))
		}
		require.NoError(t, os.WriteFile(path, data, 0o600))
	}

	require.Greater(t, found[".ldb"], 60, "the tables")
	require.Greater(t, found[".log"], 60, "the journal")
	require.Positive(t, found[""], "CURRENT and MANIFEST")
}

// A database that goleveldb would not open, or would begin anew, is named before CometBFT starts.
func TestADatabaseThatCannotBeOpenedIsNamed(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"CURRENT is missing": func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "CURRENT")))
		},
		"CURRENT is empty": func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, "CURRENT"), 0))
		},
		"CURRENT names nothing": func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "CURRENT"), []byte("MANIFEST-999999\n"), 0o600))
		},
		"everything is missing": func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.Mkdir(dir, 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := cfg.DefaultConfig()
			c.DBBackend, c.DBPath = "goleveldb", t.TempDir()
			makeDatabase(t, c, blockDatabase)
			dir := makeDatabase(t, c, stateDatabase)
			require.NoError(t, CheckChainData(c, 7))

			damage(t, dir)
			err := CheckChainData(c, 7)
			require.ErrorContains(t, err, dir)
			require.ErrorContains(t, err, Cure)
			require.Equal(t, consensus.Damage, Class(err))
		})
	}
}
