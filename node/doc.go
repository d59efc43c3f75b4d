// Package node composes a node: the engines, the supervision tree over them, the home that they
// live in, and the host that is the process. It is the one place where engines, which never import
// each other, are introduced.
//
//	Init       makes a home
//	Load       reads its configuration
//	New        opens it (one process at a time)
//	Node.Run   runs the tree until it is told to stop, or gives up
//	Verify     checks a stopped home: the log, the state, and that a replay of the log gives it
//
// Before these, the program registers the kinds of consensus that it ships (consensus.Register).
// node names none of them: each is a plug, which brings its driver, its files in the home, its part
// of the tree and the meaning of its errors.
//
// The strategies, restart types and limits of the tree are data (see Plan); everything else follows
// them.
package node
