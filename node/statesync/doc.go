// Package statesync implements consensus.StateSync for a node. It makes snapshots for peers at
// heights that all nodes share and serves them (sync.go). It also takes a snapshot from a peer:
// it imports the state and puts it in the place of the node's own (take.go).
package statesync
