// Package retention keeps the data of a running node within bounds. Its Snapshotter takes snapshots
// and sends backups. Its engine takes the snapshots that are due, prunes old versions, and
// truncates the log up to the first record that a retainer needs.
package retention
