// Package client talks to a Coppice node: it submits transactions, reads state, and shows the
// node's tree and kills children in it.
//
// # Guarantees
//
//   - A submission is repeated with the same id until it is answered or its context ends. The node
//     gives one id one effect, so a transaction is applied at most once, however often the node or
//     the connection is lost meanwhile (I2).
//   - A nil error of a submission means that the node has the transaction on disk: it will end in a
//     result or expire (I1).
//   - An error of a submission that is ErrUnknown means that it is unknown whether the node has the
//     transaction. Submitting the same transaction again is always safe. ErrPending means that the
//     node has it, and that its result is still to come. Any other error means that the transaction
//     had no effect and will have none; ErrExpired says so about a transaction that had been
//     accepted.
//   - A Client is safe for concurrent use and reuses its connections.
//
// # Non-guarantees
//
//   - Transactions of one caller are not ordered by their submission. Wait for a result, or put
//     everything into one transaction.
//   - Get reads the state that one node has committed. GetConsistent reads the state after every
//     transaction that had its result, on any node, before the call.
package client
