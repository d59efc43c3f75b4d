package home

import (
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
	followers    = "data/followers.json"
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

// FollowersPath returns the path of the note of a home's followers (see retention.Followers).
func FollowersPath(home string) string { return filepath.Join(home, filepath.FromSlash(followers)) }
