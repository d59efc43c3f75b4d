// Package node composes a node from the engines, which never import each other: it makes the
// supervision tree over them, and connects them to the home that they live in and to the listener
// of the process.
//
//	home.Init        makes a home
//	config.Load      reads its configuration
//	New              opens it (one process at a time)
//	Node.Run         runs the tree until it is told to stop, or gives up
//	offline.Verify   checks a stopped home: log, state, and that replaying the log gives the state
//
// Before these, the program registers the kinds of consensus that it ships (consensus.Register).
// node names none of them. Each kind brings its driver, its files in the home, its part of the tree
// and the meaning of its errors.
//
// The parts of a node are packages of their own below this one:
//
//	plan         the tree as data: strategies, restart types and limits
//	home         the files of a home
//	config       the configuration
//	host         the listener, its bounds, and kills
//	api          the requests that the listener serves
//	events       streams of events
//	metrics      the metrics
//	progress     how far a long start is
//	inflight     the transactions that were executing when the process died
//	retention    snapshots, backups of a running node, pruning, truncation of the log
//	statesync    snapshots for peers and from peers
//	install      puts a snapshot in the place of the state
//	backup       the format of a backup
//	offline      the work on stopped homes
//	exit         the exit codes, and the classes of errors that lead to them
//	nodetest     runs a whole node inside a test
package node
