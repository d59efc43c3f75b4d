// Package mempool holds the transactions that were accepted and have not ended: it makes each
// durable before it is acknowledged, has a worker for each, offers them to consensus, and tells
// whoever waits how they ended.
//
// The pool is the engine; its workers are temporary children of a dynamic supervisor beside it.
// Temporary children count nowhere, so the pool watches them and exits abnormally when one ends
// without a result, unless it was told to stop.
//
// After each restart the pool reads the event log from its own floor, the oldest TxLaunched without
// a terminal record (committed, expired), and so knows again what it had acknowledged (I1). The
// floor holds back truncation.
package mempool
