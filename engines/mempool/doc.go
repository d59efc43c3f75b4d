// Package mempool holds the transactions that were accepted and have not ended. It makes each one
// durable before it acknowledges it, gives it a worker, offers it to consensus, and tells the
// callers that wait how it ended.
//
// The pool is the engine; its workers are temporary children of a dynamic supervisor beside it. The
// failure of a temporary child counts toward no restart limit. So the pool watches its workers, and
// exits abnormally when one ends without a result, unless the pool was told to stop.
//
// After each restart the pool restores the transactions that it had acknowledged (I1 in
// docs/architecture.md). For this it reads the event log from its floor on. The floor is the index
// of the oldest TxLaunched without a terminal record (committed, expired). The log must keep all
// records from the floor on.
package mempool
