// Package chain is the vocabulary that the parts of a node share: transactions and their ids,
// versions, blocks, the committed state and staged blocks, the endings of transactions, the kinds
// of the event log's records with their codec, the limits of a chain, and the interfaces Backend
// and View between user code and a node.
//
// The package holds values and contracts. It starts no goroutine, touches no file, and imports no
// supervisor, so clients and tools can use it without the rest of a node.
package chain
