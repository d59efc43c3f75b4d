// Package tail reads the event log from a cursor: first the existing records, and then each new
// record as soon as it is durable.
//
// The log decides what is true, and the bus only notifies. A Tail reads every record from the log;
// an event on the bus says that there is a record to read. Followers, streams of events and sinks
// are built on a Tail.
//
// # Guarantees
//
//   - Next returns the records in order, each once, and only when they are durable. It leaves out a
//     record only because of Options.Kinds.
//   - No wake-up is lost: a Tail looks at the log after it has subscribed and before it waits. If
//     the bus is down or drops news, the Tail is slower by at most Retry.
//   - A Tail survives the end of the log's incarnation. When the log is open again, it continues
//     after the last record that it read (unless Options.EndWithLog is set).
//   - Missing records are an error and are never skipped: ErrNoRecord if truncation removed them,
//     ErrBeyond if this log never had the cursor, ErrForeign if Options.Admit
//     refuses it, eventlog.ErrCorrupt for damage and for gaps.
//   - With a retainer, no record after the last checkpoint is truncated from a log in which the
//     Tail has been opened.
//
// # Non-guarantees
//
//   - A Tail without a retainer does not hold back truncation. A reader that is too slow gets
//     ErrNoRecord.
//   - A retainer belongs to the open log. Between the opening of a log and the moment when the Tail
//     opens it, nothing holds the records.
//   - A Tail does not make checkpoints durable. The reader stores its cursor itself, and passes it
//     as Options.After when it begins again.
package tail
