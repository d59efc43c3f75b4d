// Package install replaces a home's state by a snapshot, and checks whether a state and a log
// belong together (I4).
//
// An installation has three steps. A marker in the home names the snapshot, a record in the log
// says that the snapshot is installed, and the snapshot's files take the place of the state. After
// a crash, Settle completes an installation whose record is in the log, and undoes any other, which
// leaves the old state.
package install
