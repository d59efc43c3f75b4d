// Package nodetest runs a whole node inside a test: the supervision tree, the event log, the state,
// and the API on a loopback port.
//
//	func TestMyBackend(t *testing.T) {
//		n := nodetest.Start(t, nodetest.With(node.WithBackend(mine.New())))
//		...
//		n.Crash() // the machine loses power
//		...       // what was acknowledged is there
//	}
//
// By default, the event log and the state live on a disk in memory that can lose power; see OnDisk.
// An error of the kit itself fails the test, so its methods return no errors. Only the test's
// goroutine may call them; any goroutine may use the client that Client returns.
//
// Start registers the consensus kind solo, unless the test has registered it. A test that wants
// another kind registers it in its TestMain.
//
// # Guarantees
//
//   - Start and Restart return when the node answers: the whole tree is running and the chain has
//     started.
//   - The node ends before the test does. The test fails if the node ended by itself, unless the
//     test called AwaitEnd.
//   - A client that Client returned follows the node through every restart.
//
// # Non-guarantees
//
//   - A Crash ends the node's use of the disk as the death of a process would, but the test's
//     process goes on: a goroutine that a backend left behind keeps running.
//   - With the disk in memory, the few small files of the home (configuration, genesis, token,
//     marks of running transactions) are in a temporary directory and lose nothing.
package nodetest
