package bare

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// periodPrefix is the prefix of the directory of a dump. The number of the dump follows.
const periodPrefix = "period_"

// Dump copies the home, with its keys, to period_N/<name> in a directory, and returns the copy's
// path. N is the lowest number above those of the dumps that are there. A dump that is cut short
// has the suffix .part.
func (h *Home) Dump(to, name string) (string, error) {
	to, err := filepath.Abs(to)
	if err == nil {
		err = os.MkdirAll(to, 0o700)
	}
	if err != nil {
		return "", fmt.Errorf("dump: %w", err)
	}
	n, err := nextPeriod(to)
	if err != nil {
		return "", fmt.Errorf("dump: %w", err)
	}

	dir := filepath.Join(to, periodPrefix+strconv.Itoa(n))
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return "", fmt.Errorf("dump: %w", err)
	}
	if err := copyTree(h.dir, filepath.Join(part, name), to); err != nil {
		return "", fmt.Errorf("dump: %w", errors.Join(err, os.RemoveAll(part)))
	}
	if err := os.Rename(part, dir); err != nil {
		return "", fmt.Errorf("dump: %w", err)
	}

	return filepath.Join(dir, name), nil
}

func nextPeriod(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	next := 0
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), periodPrefix)
		if n, err := strconv.Atoi(digits); ok && err == nil {
			next = max(next, n+1)
		}
	}
	return next, err
}

// copyTree copies the directories and regular files of from, except the directory skip.
func copyTree(from, to, skip string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}

		switch {
		case e.IsDir() && path == skip:
			return fs.SkipDir
		case e.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case e.Type().IsRegular():
			return copyFile(path, filepath.Join(to, rel))
		}

		return nil // a socket, for instance
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()

	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)

	return errors.Join(err, out.Close())
}
