// Package engines is the engine runtime: a bounded mailbox, one message at a time, and typed calls
// and casts through an Address. The vocabulary that engines share is in package chain.
//
// An engine is this runtime's gen_server. It is a supervised child that takes messages from a
// mailbox one after the other. Each start of it is an incarnation. An error that a handler returns,
// or a panic, ends the incarnation, and the supervisor decides what happens next.
//
// # Guarantees
//
//   - Messages are handled one at a time, those of one sender in the order in which it sent them.
//   - An Address is resolved at each use, so no message reaches a replaced incarnation (I5 in
//     docs/architecture.md).
//   - When the callee ends, its callers get ErrDown with the cause at once, not after a timeout.
//   - A call that ended without a reply may or may not have been handled. A call that returned
//     ErrDown with Delivered false was certainly not.
//
// # Non-guarantees
//
//   - A cast is not acknowledged, and is lost when the callee ends before taking it.
//   - The runtime persists nothing. An engine writes what must survive a restart to the event log.
//
// Engines never import engines. Each declares the small interface that it consumes, and package
// node connects them.
package engines
