// Package streams delivers committed blocks to external systems.
//
// A sink is an external system, and the code that writes to it: a package below this one, which a
// program registers by its Factory. A sink holds its own cursor and moves it in one atomic step
// with the data, so that whatever dies, delivery goes on at the next block: nothing is lost,
// nothing comes twice, and another node can continue.
//
// The unit of delivery is a block. All that is delivered has one form, the envelope: Event, with a
// protobuf and a JSON form, and for each unit a digest that all forms share.
//
// A slot is this node's durable record of a sink (Streams, slotfile.go). It holds the log for the
// sink, from the moment when the log is opened. Below a slot's supervisor runs a writer: it
// observes the sink, compares hashes with the log, claims the sink, and delivers what the log has.
// Each failure has a Class, which decides what happens next.
//
// # Guarantees
//
//   - Events hold replicated facts. The same unit, under the same definition, has the same events,
//     indexes and digest on every node, except for what Event documents as outside of the digest.
//
//   - The order of a unit is: header; for each transaction its head, its changes in write order,
//     the events that it emitted, its outcome; the changes of hooks; validators; end.
//
//   - The log is not truncated past what a slot needs, also not before the engine runs, and not at
//     all while a slot file cannot be read. A slot past its caps is given up, with an error.
//
//   - A sink of another chain, with other hashes, of another definition, or above the log is not
//     written, and is named.
//
//   - A failing sink is tried again by its slot; only a failure of class Bug is a restart, and its
//     supervisor keeps it from those above.
//
// # Non-guarantees
//
//   - Missing yet: values before changes (R16), generations of Kafka and NATS (R40), continuing
//     under a changed definition (R26).
//
//   - A reader of a system without transactions may see a unit before its End.
package streams
