// Package pubsub tells events to whoever is interested: a bus in memory, under supervision, that
// never makes a publisher wait.
//
// Subscribers name what they want by a chain of filters, which are values. For each prefix of a
// chain there is one agent, shared by all chains that begin so; it receives what the agent before
// it passes on, the first one what the broker does. Agents start with their first subscriber and
// end with their last.
//
//	pubsub          one_for_all, 3 in 10 s
//	├── registry    starts filter agents; knows who subscribed
//	├── broker      top-level event broker
//	└── filters     dynamic, transient children, max_restarts 0: an agent that dies abnormally takes pubsub down
//
//	publish ──► broker ──► [kind=a] ──► [kind=a path=b] ──► subscription ──► Next
//	                 │            └───► [kind=a path=c] ──► …
//	                 └───► subscription of the empty chain
//
// The log is truth, the bus is notification. Nothing here is durable, and what is lost is said to
// be lost, so that a subscriber who wants everything can read it from a log: subscribe; read the
// log from one's cursor to its end; then go on with Next, passing over events that the cursor has
// passed. At a Gap read the log again from the cursor. After ErrDown or ErrSlow, begin anew.
//
// # Guaranteed
//
//   - Order: each subscription has its events in publish order, none twice.
//   - Nothing is missing in silence: between two events that Next answers, every matching event
//     that was published is there, or a Gap stands in its place. A loss after which no event comes
//     is a Gap too. A subscription that ends says so, and why.
//   - Publish never waits, neither for a subscriber nor for an agent, and answers at once when the
//     bus is down.
//   - A slow subscriber costs nobody else anything: it has a buffer of its own, and its Policy says
//     what happens when that is full.
//   - An incarnation of the bus that is over reaches nobody. Its subscriptions end with ErrDown as
//     soon as the first of its children ends, by error, panic or Goexit. They are not carried over:
//     who subscribes again knows that it has to catch up.
//   - An agent without a subscriber ends, in any order of joining and leaving; a subscriber that
//     ended holds no agent.
//   - Memory is bounded: a subscription holds at most its policy's Buffer events; the broker and
//     each agent hold at most twice Options.Mailbox events, those that wait and those in hand.
//
// # Not guaranteed
//
//   - Delivery: an event that was published with a nil error may be lost, visibly, by a full
//     mailbox, a full buffer, or the bus's end.
//   - An order between the events of two goroutines that publish at once, or between what two
//     subscriptions have read.
//   - The count of a Gap is an upper bound, as its doc says; and just after Subscribe a Gap may
//     tell of events from before.
//   - A filter whose Match hangs holds up the subscribers behind it, and nobody else: the mailbox
//     of its agent fills, and they have a gap. The agent cannot be killed while it hangs; told to
//     stop, it becomes an orphan of its supervisor, and subscribers may learn of its end only then.
//   - A filter that panics ends its incarnation of the bus, for all. Filters are code of the
//     program; what people type is checked in a Family.
package pubsub
