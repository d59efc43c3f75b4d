package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	cfg "github.com/cometbft/cometbft/config"

	"github.com/coppice-go/coppice/internal/recordlog"
	"github.com/coppice-go/coppice/internal/syserr"
)

// The databases of CometBFT that hold its chain.
const (
	blockDatabase  = "blockstore"
	stateDatabase  = "state"
	databaseSuffix = ".db"
)

// Cure says what an operator can do about damage of CometBFT's databases.
const Cure = "have it rebuilt from what the peers have ('coppice reset hard --home HOME --from RPC,RPC'), put comet " +
	"and data back from one backup of the home, or make a new home with the keys of this one and join by block sync " +
	"or state sync"

func databaseDir(c *cfg.Config, name string) string {
	return filepath.Join(c.DBDir(), name+databaseSuffix)
}

// databases returns the directories of CometBFT's databases that exist.
func databases(c *cfg.Config) ([]string, error) {
	dirs, err := filepath.Glob(filepath.Join(c.DBDir(), "*"+databaseSuffix))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHome, err)
	}
	return dirs, nil
}

// damaged returns err as damage of the database in dir, unless it is the operating system's, such
// as that of a full disk.
func damaged(dir string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrHome, err)
	case syserr.Is(err):
		return fmt.Errorf("the database %s: %w", dir, err)
	}
	return fmt.Errorf("%w: the database %s: %w; %s", ErrChainDamage, dir, err, Cure)
}

// CheckChainData returns an error if CometBFT must not start with its databases: one cannot be
// opened, the journal of the blocks or of the states is damaged, or the application is at a height
// above 0 and the blocks or the state of CometBFT are gone. It reads which files there are, and
// those journals, which hold a few megabytes. goleveldb would skip what is damaged, or begin the
// database anew, and remove what is left.
func CheckChainData(c *cfg.Config, height uint64) error {
	dirs, err := databases(c)
	if err != nil {
		return err
	}

	for _, dir := range dirs {
		if empty, err := missing(dir); err != nil {
			return err
		} else if empty {
			continue
		}
		if _, err := checkCurrent(dir); err != nil {
			return damaged(dir, err)
		}
		if mark := syncMark(dir); mark != "" {
			check := func(data []byte) error { return recordlog.CheckSynced(data, []byte(mark)) }
			if err := checkJournals(dir, check); err != nil {
				return err
			}
		}
	}

	if height == 0 {
		return nil
	}

	for _, name := range []string{blockDatabase, stateDatabase} {
		dir := databaseDir(c, name)
		if gone, err := missing(dir); err != nil {
			return err
		} else if gone {
			return fmt.Errorf("%w: there is nothing in %s, and the state is at height %d: %s", ErrChainData, dir,
				height, Cure)
		}
	}

	return nil
}

// syncMark returns what a batch has that CometBFT writes to a database with a sync: a value (1),
// the length of its key, and the key. It is empty for a database whose last writes may be lost,
// because CometBFT makes them again.
func syncMark(dir string) string {
	switch strings.TrimSuffix(filepath.Base(dir), databaseSuffix) {
	case blockDatabase:
		return "\x01\x0a" + string(blockHeightKey)
	case stateDatabase:
		return "\x01\x08" + string(stateKey)
	}
	return ""
}

// missing reports whether a database does not exist yet: its directory does not, or is empty, or
// has what is left of a creation that was cut short.
func missing(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrHome, err)
	}
	return onlyNotes(entries) || unmade(entries), nil
}

// onlyNotes reports whether these are the files of a database that has no data.
func onlyNotes(entries []fs.DirEntry) bool {
	for _, e := range entries {
		switch e.Name() {
		case "LOCK", "LOG", "LOG.old":
		default:
			return false
		}
	}
	return true
}

// checkCurrent returns the name of the file that the CURRENT of a database names. goleveldb would
// take an older CURRENT.bak instead, or begin the database anew.
func checkCurrent(dir string) (manifest string, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "CURRENT"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("its file CURRENT, which names the newest MANIFEST, is missing")
	}
	if err != nil {
		return "", err
	}

	manifest, ended := strings.CutSuffix(string(b), "\n")
	if !ended || !strings.HasPrefix(manifest, "MANIFEST-") || filepath.Base(manifest) != manifest {
		return "", fmt.Errorf("its file CURRENT contains %.40q, want the name of a MANIFEST", b)
	}
	if _, err := os.Stat(filepath.Join(dir, manifest)); err != nil {
		return "", fmt.Errorf("its file CURRENT names a file that cannot be read: %w", err)
	}

	return manifest, nil
}

// ClearUnmade removes a CometBFT database that is incomplete because the process was killed while
// it created the database. goleveldb writes a MANIFEST and then CURRENT, which names it, and never
// opens a directory that has only the MANIFEST. Such a database was still empty. A database without
// CURRENT that has a table or a journal is damaged, and stays as it is.
func ClearUnmade(data string) error {
	dirs, err := filepath.Glob(filepath.Join(data, "*.db"))
	if err != nil {
		return err
	}

	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrHome, err)
		}
		if !unmade(entries) {
			continue
		}

		for _, e := range entries {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%w: %w", ErrHome, err)
			}
		}
	}

	return nil
}

// unmade reports whether these are the files of a goleveldb database whose creation was cut short.
func unmade(entries []fs.DirEntry) bool {
	manifest := false
	for _, e := range entries {
		switch name := e.Name(); {
		// CURRENT.N becomes CURRENT.
		case name == "LOCK", name == "LOG", name == "LOG.old", strings.HasPrefix(name, "CURRENT."):
		case name == "MANIFEST-000000":
			manifest = true
		default:
			return false
		}
	}

	return manifest
}
