// Package nodetest runs a whole node inside a test: the supervision tree, the event log, the state,
// the API on a loopback port.
//
//	func TestMyBackend(t *testing.T) {
//		n := nodetest.Start(t, nodetest.With(node.WithBackend(mine.New())))
//		...
//		n.Crash() // the machine loses power
//		...       // what was acknowledged is there
//	}
//
// By default the event log and the state live on a disk in memory that can lose power; see OnDisk.
// What goes wrong in the kit itself fails the test, so that its methods answer no errors. They
// belong to the test's goroutine; what Client returns is for any.
//
// Start registers the kind of consensus solo, unless the test has. A test that wants another kind
// registers it in its TestMain.
//
// # Guarantees
//
//   - Start and Restart return when the node answers: the whole tree runs and the chain has
//     started.
//   - The node ends before the test does, and the test fails when it ended by itself, unless the
//     test asked how with AwaitEnd.
//   - A client that Client made follows the node through every restart.
//
// # Non-guarantees
//
//   - A Crash of the disk is that of a process too, but not of the test's: a goroutine that a
//     backend left behind goes on.
//   - In memory the few small files of the home (configuration, genesis, token, marks of what
//     executes) lie in a temporary directory and lose nothing.
package nodetest
