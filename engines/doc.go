// Package engines is the engine runtime: a bounded mailbox, one message at a time, and typed calls
// and casts through an Address. The vocabulary that engines share is in package chain.
//
// An engine is this runtime's gen_server. It is a supervised child that takes messages from a
// mailbox one after the other; whatever it cannot handle ends its incarnation, and its supervisor
// decides what happens next.
//
// # Guarantees
//
//   - One message is handled at a time, in the order in which one sender sent them.
//   - An Address is resolved at each use, so no message reaches a replaced incarnation (I5).
//   - When the callee ends, its callers learn it at once: they get ErrDown with the exit, not a
//     timeout.
//   - A call that ended without a reply may or may not have been handled. A call that returned
//     ErrDown with Delivered false was certainly not.
//
// # Non-guarantees
//
//   - A cast is not acknowledged, and is lost when the callee ends before taking it.
//   - Nothing is persisted here. What must survive goes through the event log.
//
// Engines never import engines. Each declares the small interface that it consumes, and package
// node connects them.
package engines
