// Package kafka is the sink that writes to a topic of Kafka.
//
// Each event is a record, whose key is the key of a change and whose value is the envelope in JSON
// or protobuf. Whole units form a transaction. Each partition gets the End of each unit, so that a
// partition tells by its last record where it stands. Control records of the sink's own tell of
// claims and of signs of life; their header has "coppice-control".
//
// # Guarantees
//
//   - Readers with isolation.level = read_committed see whole units, each once, in order. With
//     several partitions, order holds in each; the keys of one prefix go to one partition.
//   - A claim fences the producers of older claims. What the sink holds is read back from the
//     claim's own record, before which nothing new can appear.
//   - An acknowledgment means that the transaction was committed with acks of all replicas.
//
// # Non-guarantees
//
//   - Kafka acknowledges before it syncs to disk: an acknowledged unit is as durable as the topic's
//     replicas.
//   - It was tested with kfake, a stand-in for Kafka, and never with Kafka itself.
package kafka
