// Package inflight tells the next process which transactions were running a backend's code when
// this one died.
//
// Code that panics fails its transaction. Code that ends the process (os.Exit, a fatal error of the
// runtime such as a stack overflow or a map written by two, memory run out) can be noticed by
// nobody inside, so it is learnt by the successor: a Table is a file in shared memory in which a
// worker marks its transaction for exactly as long as backend code runs. A mark costs a few stores
// and no system call, and outlives the process. Open counts the marks that it finds.
//
// Two files:
//
//	marks        the table: what is running right now. Each process makes its own.
//	deaths.json  how often each transaction was in flight at a death, until it ends.
//	             Removing the file forgets all deaths.
//
// Guaranteed:
//
//   - A death is counted once for each transaction and phase, also when the counting process dies
//     over it.
//   - A table that was closed counts for nothing: only a process that did not stop in order has
//     died. What engines do to each other inside a process is not a death.
//   - A transaction that was in flight at a death runs alone from then on: no other is marked
//     meanwhile. The second death therefore has one suspect only, whatever else was running at the
//     first. Code that kills in company only (two writers of one map) runs through.
//
// Not guaranteed:
//
//   - That a counted transaction is to blame. Whoever kills the process from outside while a
//     backend runs leaves the same marks; the chance of it is the part of the time in which that
//     one transaction's code runs, and it has to strike twice. Waiting, for a place or for a read,
//     is not running: of 40 SIGKILLs under a load of kv transactions 3 left a mark, and none
//     stopped the node. Where it does happen, remove deaths.json.
//   - Marks across a power cut or a boot: no transaction's fault, and not looked at (where the
//     system tells its boot).
//   - A mark for the 1025th that runs at the same instant, for goroutines that a backend leaves
//     behind, and for Backend.Check at submission: what dies there was acknowledged to nobody and
//     is not replayed.
//
// The home's file system must support shared mappings.
package inflight
