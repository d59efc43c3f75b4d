// Package chain is the vocabulary that the parts of a node share: transactions and their ids,
// versions, blocks, the committed state and staged blocks, the endings of transactions, the kinds
// of the event log's records with their codec, the limits of a chain, and the Backend and View
// through which user code meets it.
//
// The package holds values and contracts. It starts no goroutine, touches no file, and imports no
// supervisor, so clients and tools can depend on it alone.
package chain
