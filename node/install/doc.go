// Package install puts a snapshot in the place of a home's state, and says whether a state and a
// log belong together (I4).
//
// An installation has three steps: a marker in the home names the snapshot, a record in the log
// says that it is installed, and the snapshot's files take the state's place. A crash after the
// second step is completed by Settle; a crash before it leaves the old state.
package install
