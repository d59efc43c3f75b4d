// Package mempool holds the transactions that were accepted and have not ended. It makes each one
// durable before it acknowledges it, gives it a worker, offers it to consensus, and tells the
// callers that wait how it ended.
//
// The pool is the engine; its workers are temporary children of a dynamic supervisor beside it.
// Temporary children count toward no limit, so the pool watches them and exits abnormally when one
// ends without a result, unless the pool was told to stop.
//
// After each restart the pool reads the event log from its own floor, the oldest TxLaunched without
// a terminal record (committed, expired), and so knows again what it had acknowledged (I1). The
// floor holds back truncation.
package mempool
