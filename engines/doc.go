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
//   - A message that the engine has no handler for is refused at its sender (ErrUnknownMessage). It
//     does not reach the engine. A pointer to a message is as good as the message.
//   - The deadline of a call travels with it, to the handler and to the calls that the handler
//     makes. It never ends the callee.
//   - A call that would wait for its own caller, directly or around a ring of engines, returns
//     ErrWouldDeadlock at once, with the names of the ring.
//   - One engine has a name at a time. A second one is refused (ErrNameTaken).
//
// # Non-guarantees
//
//   - A cast is not acknowledged, and is lost when the callee ends before taking it.
//   - A cancellation does not travel with a call, only a deadline does.
//   - A ring is seen only where the engine itself waits, with its own context: not a handler that
//     waits for a goroutine of its own, nor a call that the callee keeps to answer later. The
//     caller's deadline bounds such waits.
//   - The runtime persists nothing. An engine writes what must survive a restart to the event log.
//
// # Timeouts, timers and messages to oneself
//
// Call has no time limit of its own. A caller that wants one gives it to the context
// (context.WithTimeout). A handler makes its calls with the context that it was given, and its
// deadline then holds for the whole way. What must not stop half-way uses Lifetime(ctx).
//
// There are no timers in the runtime: time.AfterFunc with Server.Post is one. An engine that wants
// to do something after the present message posts it to itself. The examples show each of these.
//
// Engines never import engines. Each declares the small interface that it consumes, and package
// node connects them.
package engines
