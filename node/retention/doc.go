// Package retention keeps what is on the disk of a running node within bounds. Its Snapshotter
// takes snapshots and sends backups; its engine takes the snapshots that are due, prunes old
// versions, and truncates the log behind all retainers.
package retention
