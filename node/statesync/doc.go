// Package statesync makes snapshots for peers at heights that all nodes share, serves them, and
// takes a snapshot from a peer: it imports the state and puts it in the place of the node's own.
package statesync
