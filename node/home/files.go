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
	resetsDir    = "data/resets"    // states at resets, for peers
	resetCopies  = "data/resetting" // the same, as copies of the database
	followers    = "data/followers.json"
	streamsDir   = "streams" // what an operator says about streams
	streamsData  = "data/streams"
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

// ResetsDir returns the directory of the states at resets that a home hands out to its peers.
func ResetsDir(home string) string { return filepath.Join(home, filepath.FromSlash(resetsDir)) }

// ResetCopiesDir returns the directory of the copies of the state from which those are made.
func ResetCopiesDir(home string) string { return filepath.Join(home, filepath.FromSlash(resetCopies)) }

// StreamsDir returns the directory of the definitions of a home's streams, and of its gates.
func StreamsDir(home string) string { return filepath.Join(home, streamsDir) }

// StreamsDataDir returns the directory of what a home's streams and gates remember.
func StreamsDataDir(home string) string { return filepath.Join(home, filepath.FromSlash(streamsData)) }

// FollowersPath returns the path of the note of a home's followers (see retention.Followers).
func FollowersPath(home string) string { return filepath.Join(home, filepath.FromSlash(followers)) }
