package home

import (
	"os"
	"path/filepath"
	"testing"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/stretchr/testify/require"
)

// A CometBFT database whose creation was cut short by a kill opens again. A database with any data
// is left alone, whole or damaged. (Found by killing a joining node: evidence.db had a MANIFEST and
// no CURRENT, and CometBFT ended at each start.)
func TestADatabaseWhoseMakingWasCutShortIsMadeAnew(t *testing.T) {
	data := t.TempDir()
	c := cfg.DefaultConfig()
	c.DBBackend, c.DBPath = "goleveldb", data
	open := func(name string) error {
		db, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: name, Config: c})
		if err != nil {
			return err
		}
		return db.Close()
	}
	at := func(name, file string) string { return filepath.Join(data, name+".db", file) }

	for name, file := range map[string]string{"manifest": "", "pending": "CURRENT.0"} {
		require.NoError(t, os.MkdirAll(at(name, ""), 0o755))
		for _, f := range []string{"LOCK", "LOG", "MANIFEST-000000", file} {
			if f != "" {
				require.NoError(t, os.WriteFile(at(name, f), nil, 0o600))
			}
		}
		require.Error(t, open(name), "goleveldb does not open it")
	}

	for _, name := range []string{"whole", "damaged"} {
		db, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: name, Config: c})
		require.NoError(t, err)
		require.NoError(t, db.SetSync([]byte("key"), []byte(name)))
		require.NoError(t, db.Close())
	}

	require.NoError(t, os.Remove(at("damaged", "CURRENT")))
	damaged, err := os.ReadDir(at("damaged", ""))
	require.NoError(t, err)

	require.NoError(t, ClearUnmade(data))
	require.NoError(t, open("manifest"))
	require.NoError(t, open("pending"))
	db, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: "whole", Config: c})
	require.NoError(t, err)
	v, err := db.Get([]byte("key"))
	require.NoError(t, err)
	require.Equal(t, "whole", string(v))
	require.NoError(t, db.Close())
	require.Error(t, open("damaged"))
	still, err := os.ReadDir(at("damaged", ""))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(still), len(damaged))
}
