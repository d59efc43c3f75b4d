// Package offline works on stopped homes: verification by replay, snapshots, backup, restore,
// salvage, upgrade, pruning and compaction. Each of them holds the home's lock while it works,
// except for those that only read snapshots.
package offline
