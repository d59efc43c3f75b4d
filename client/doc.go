// Package client talks to a Coppice node: it submits transactions, reads state, and shows and cuts
// the node's tree.
//
// # Guarantees
//
//   - A submission is repeated with the same id until it is answered or its context ends. The node
//     gives one id one effect, so that a transaction is applied at most once however often the
//     node, or the connection, was lost on the way (I2).
//   - A nil error of a submission means that the node has it on disk: it ends in a result or it
//     expires (I1).
//   - An error of a submission that Is ErrUnknown leaves it open whether the node has it.
//     Submitting the same transaction again is always safe. ErrPending means that the node has it
//     and that its result is still to come. Any other error of a submission means that it had no
//     effect and will have none; ErrExpired says so of one that had been accepted.
//   - A Client is safe for concurrent use and reuses its connections.
//
// # Non-guarantees
//
//   - Transactions of one caller are not ordered by the order of their submission. Wait for a
//     result, or put it all in one.
//   - Get reads the state that one node has committed. Use GetConsistent to read after everything
//     that had its result, on any node, before the call.
package client
