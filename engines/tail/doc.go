// Package tail reads the event log from a cursor: first what is there, and then each record as it
// becomes durable.
//
// The log is truth and the bus is notification. A Tail reads every record from the log; news on the
// bus only says that there is something to read. Followers, streams of events and sinks are views
// of a Tail.
//
// # Guarantees
//
//   - Records come in order, each once, and only when they are durable. Nothing but Options.Kinds
//     leaves one out.
//   - No wake-up is lost: a Tail looks at the log after it has subscribed and before it waits. A
//     bus that is down, or that drops news, makes it slower by Retry at most.
//   - A Tail survives the end of the log's incarnation, and continues behind the last record that
//     it read when the log is open again (unless Options.EndWithLog is set).
//   - Missing records are an error and never passed over: ErrNoRecord if truncation removed them,
//     ErrBeyond if this log never had the cursor, eventlog.ErrCorrupt for damage and for gaps.
//   - With a retainer, no record behind the last checkpoint is truncated from a log in which the
//     Tail has been opened.
//
// # Non-guarantees
//
//   - A Tail without a retainer holds back no truncation. A reader that is too slow gets
//     ErrNoRecord.
//   - A retainer lives in the open log. From the opening of a log until the Tail has opened it,
//     nothing holds the records.
//   - A Tail makes no checkpoint durable. The reader keeps its cursor where it likes, and passes it
//     as Options.After when it begins again.
package tail
