package home

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	dbm "github.com/cometbft/cometbft-db"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/coppice-go/coppice/engines/consensus"
)

// Compact rewrites each database of a home in which CometBFT does not run, without the entries that
// were removed. If ctx ends, it stops within one table, and leaves databases with the same content.
func Compact(ctx context.Context, home string, progress func(step string, done, total uint64)) ([]consensus.Size,
	error) {
	c, err := LoadConfig(home)
	if err != nil {
		return nil, err
	}
	dirs, err := databases(c)
	if err != nil {
		return nil, err
	}

	var sizes []consensus.Size

	for i, dir := range dirs {
		if gone, err := missing(dir); err != nil {
			return sizes, err
		} else if gone {
			continue
		}

		progress("compact "+filepath.Base(dir), uint64(i), uint64(len(dirs)))
		size, err := sized(dir, func() error { return compactDatabase(ctx, dir) })
		if err != nil {
			return sizes, err
		}
		sizes = append(sizes, size)
	}

	return sizes, nil
}

// sized returns the size of a database before and after do.
func sized(dir string, do func() error) (s consensus.Size, err error) {
	s.Name = filepath.Base(dir)
	if s.Before, err = bytesIn(dir); err != nil {
		return s, err
	}
	if err = do(); err != nil {
		return s, err
	}
	s.After, err = bytesIn(dir)
	return s, err
}

// bytesIn returns the size of the files in a directory.
func bytesIn(dir string) (n int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrHome, err)
	}

	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("%w: %w", ErrHome, err)
		}
		n += info.Size()
	}

	return n, nil
}

// compactDatabase compacts a database that no process uses. It opens the database once more,
// because goleveldb removes replaced tables in the background, and those that are left at the next
// start.
func compactDatabase(ctx context.Context, dir string) error {
	db, err := openToWrite(dir)
	if err != nil {
		return err
	}
	if err := closeCompacted(ctx, dir, db); err != nil {
		return err
	}

	if db, err = openToWrite(dir); err != nil {
		return err
	}
	return db.Close()
}

// openToWrite opens a database that exists.
func openToWrite(dir string) (*dbm.GoLevelDB, error) {
	db, err := dbm.NewGoLevelDBWithOpts(strings.TrimSuffix(filepath.Base(dir), databaseSuffix), filepath.Dir(dir),
		&opt.Options{ErrorIfMissing: true})
	if err != nil {
		return nil, damaged(dir, err)
	}
	return db, nil
}

// closeCompacted compacts a database and closes it. If ctx ends first, it closes the database at
// once, because goleveldb has no other way to end a compaction.
func closeCompacted(ctx context.Context, dir string, db *dbm.GoLevelDB) error {
	done := make(chan error, 1)
	go func() { done <- db.DB().CompactRange(util.Range{}) }()

	select {
	case err := <-done:
		if err = errors.Join(err, db.Close()); err != nil {
			return damaged(dir, err)
		}
		return nil

	case <-ctx.Done():
		err := db.Close()
		<-done // ErrClosed, or the end of a compaction that was faster
		return errors.Join(context.Cause(ctx), err)
	}
}
