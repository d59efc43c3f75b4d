package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/node/exit"
)

// startedFile is made in a home once its log exists. It lies outside of data, which may be on
// another file system.
const startedFile = "STARTED"

// MarkStarted records durably that the home has a log.
func MarkStarted(home string, id [16]byte) error {
	path := filepath.Join(home, startedFile)
	err := durable.OS.WriteNew(path, fmt.Appendf(nil, "log %x\n", id), 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return errors.Join(err, durable.OS.SyncDir(home))
}

// StartedWithoutLog returns exit.ErrDamage if the home once had a log, and nil if it never had one.
// The caller has found that it has none now. A new log must not be made in a home that lost its
// log: the new chain would lack the transactions that were acknowledged.
func StartedWithoutLog(home string) error {
	b, err := os.ReadFile(filepath.Join(home, startedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	return fmt.Errorf("%w: a node was started in %s (%s), but there is nothing in %s: is its file system mounted? To "+
		"begin a new chain, make a new home",
		exit.ErrDamage, home, strings.TrimSpace(string(b)), LogDir(home))
}

// StateWithoutLog returns an error if the home has no log, but has a state or once had a log. It
// must be called before a new log is made there. A log is durable before its state is begun, so a
// crash cannot leave such a home. disk may be nil for the operating system's.
func StateWithoutLog(disk vfs.FS, home string) error {
	if disk == nil {
		disk = vfs.Default
	}
	logs, err := HasFile(disk, LogDir(home), func(name string) bool { return strings.HasSuffix(name, ".seg") })
	if err != nil || logs {
		return err
	}
	tables, err := HasFile(disk, StateDir(home), func(name string) bool { return strings.HasPrefix(name, "MANIFEST-") })
	if err != nil {
		return err
	}
	if !tables {
		return StartedWithoutLog(home)
	}
	return fmt.Errorf("%w: there is a state in %s, but no log in %s that it could have been made from", exit.ErrDamage,
		StateDir(home), LogDir(home))
}

// HasFile reports whether a directory has a file whose name is wanted. A missing directory has
// none.
func HasFile(disk vfs.FS, dir string, wanted func(name string) bool) (bool, error) {
	names, err := disk.List(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}

	for _, name := range names {
		if wanted(name) {
			return true, nil
		}
	}

	return false, nil
}
