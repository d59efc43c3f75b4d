package home

import (
	"path/filepath"
)

const (
	snapshotDir = "data/snapshots"
	peersDir    = "data/statesync" // snapshots for peers
)

// SnapshotDir is where the snapshots of a home lie.
func SnapshotDir(home string) string { return filepath.Join(home, filepath.FromSlash(snapshotDir)) }

// StateSyncDir is where the snapshots of a home lie that it offers to its peers.
func StateSyncDir(home string) string { return filepath.Join(home, filepath.FromSlash(peersDir)) }
