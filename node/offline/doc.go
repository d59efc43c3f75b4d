// Package offline is the work on a stopped home: verification by replay, snapshots, backup,
// restore, salvage and upgrade. Each holds the home's lock while it works.
package offline
