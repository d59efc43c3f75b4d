// Package inflight tells the next process which transactions were running a backend's code when
// this process died.
//
// Code that panics fails its transaction. Code can also end the process: by os.Exit, by running out
// of memory, or by a fatal error of the runtime, such as a stack overflow or concurrent writes of a
// map. The process itself cannot report such an end, so the next process has to find out. A Table
// is a file in shared memory, in which a worker marks its transaction for exactly as long as
// backend code runs. A mark costs a few stores and no system call, and outlives the process. Open
// counts the marks that it finds.
//
// The table has two files:
//
//	marks        the table: what is running right now. Each process makes its own.
//	deaths.json  how often each transaction was in flight at a death, until it ends.
//	             Removing the file forgets all deaths.
//
// Guaranteed:
//
//   - A death is counted once for each transaction and phase, even if the counting process dies
//     meanwhile.
//   - The marks of a table that was closed do not count: only a process that did not stop in order
//     has died. Failures of engines inside a process are not deaths.
//   - A transaction that was in flight at a death runs alone from then on: no other is marked
//     meanwhile. So the second death has only one suspect, whatever else was running at the first.
//     Code that kills only in company (two writers of one map) succeeds when it runs alone.
//
// Not guaranteed:
//
//   - That a counted transaction is to blame. If something outside kills the process while a
//     backend runs, it leaves the same marks. The chance is the share of the time in which that one
//     transaction's code runs, and it has to happen twice. Waiting, for a place or for a read, is
//     not running: of 40 SIGKILLs under a load of kv transactions 3 left a mark, and none stopped
//     the node. If it does happen, remove deaths.json.
//   - Marks across a power cut or a boot. These are not the fault of a transaction, so such marks
//     are ignored (if the system names its boots).
//   - A mark for the 1025th transaction that runs at the same instant, for goroutines that a
//     backend leaves behind, and for Backend.Check at submission: a transaction that kills the
//     process there was not acknowledged and is not replayed.
//
// The home's file system must support shared mappings.
package inflight
