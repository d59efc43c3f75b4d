package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

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
