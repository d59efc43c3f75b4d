// Package resetfire resets the chain of a testnet again and again under load, while its nodes and
// their CometBFTs are killed, paused and cut off, above all between the decision on a reset and the
// first block of the next epoch. In the end it checks what resets promise: one epoch and one app
// hash for each height on all nodes, nothing acknowledged lost or applied twice, and no two votes
// of one key for one (chain, height, round, type). It counts the nodes that were left behind and
// came back: a run without any proves nothing about that.
package resetfire
