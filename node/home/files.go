package home

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// The files and directories of a home.
const (
	lockFile     = "LOCK"
	FormatFile   = "FORMAT" // its presence makes a directory a home
	logDir       = "data/log"
	stateDir     = "data/state"
	inflightPath = "data/inflight"
	snapshotDir  = "data/snapshots"
	peersDir     = "data/statesync" // snapshots for peers
)

// LogDir returns the directory of a home's event log.
func LogDir(home string) string { return filepath.Join(home, filepath.FromSlash(logDir)) }

// StateDir returns the directory of a home's state.
func StateDir(home string) string { return filepath.Join(home, filepath.FromSlash(stateDir)) }

// InflightDir returns the directory of the marks of transactions in flight.
func InflightDir(home string) string { return filepath.Join(home, filepath.FromSlash(inflightPath)) }

// SnapshotDir returns the directory of a home's snapshots.
func SnapshotDir(home string) string { return filepath.Join(home, filepath.FromSlash(snapshotDir)) }

// StateSyncDir returns the directory of the snapshots that a home offers to its peers.
func StateSyncDir(home string) string { return filepath.Join(home, filepath.FromSlash(peersDir)) }

// WriteNew writes a new file and syncs it. It fails if the file exists. The name is durable after a
// SyncDir of the directory.
func WriteNew(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// ReplaceFile replaces the content of a file in one step, durably.
func ReplaceFile(path string, data []byte, mode fs.FileMode) error {
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := WriteNew(tmp, data, mode); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}

	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a directory durable.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
