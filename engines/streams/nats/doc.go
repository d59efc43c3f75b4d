// Package nats is the sink that writes to a stream of NATS JetStream.
//
// Each event is a message, whose subject ends with the event's kind and whose body is the envelope
// in JSON or protobuf. Control messages of the sink's own, with the subject's end "control", tell
// of claims. The header of a message has the epoch of its writer and the sequence of the message
// that tells where the stream stood before: an End or a control message.
//
// # Guarantees
//
//   - Each message, or batch of messages, is accepted only if the stream's last sequence is the one
//     that the writer knows: nothing comes twice, and a claim ends all older writers.
//   - A unit of at most 1,000 events and 4 MiB is one atomic batch (from server 2.12 on). A larger
//     one is several batches; the next claim goes on inside it.
//   - What stays of a unit that is not delivered again as it was is declared void by a control
//     message.
//
// # Non-guarantees
//
//   - A server that does not sync before each acknowledgment loses what it acknowledged when its
//     machine fails. The sink cannot ask the server for that setting: the definition says it.
//   - With atomic = "never", and with servers before 2.12, readers see units before their End.
package nats
