// Package pubsub is a supervised in-memory event bus that never makes a publisher wait.
//
// A subscriber names the events that it wants by a chain of filters, which are values. For each
// prefix of a chain there is one agent, shared by all chains that begin with it. An agent receives
// the events that the agent before it passes on; the first agent receives them from the broker. An
// agent starts with its first subscriber and ends with its last. The agents of one Equal attribute
// behind the same prefix share one child of filters, an index agent, which asks each event for its
// value once.
//
//	pubsub          one_for_all, 3 in 10 s
//	├── registry    starts filter agents; knows who subscribed
//	├── broker      top-level event broker
//	└── filters     dynamic, transient children, max_restarts 0: an agent that dies abnormally
//	                takes pubsub down
//
//	publish ──► broker ──► [kind=a] ──► [kind=a path=b] ──► subscription ──► Next
//	                 │            └───► [kind=a path=c] ──► …
//	                 └───► subscription of the empty chain
//
// The log is truth, the bus is notification. Nothing here is durable, but every loss is reported,
// so that a subscriber that needs every event can read the missing ones from a log: subscribe; read
// the log from the cursor to its end; then go on with Next, skipping the events that the cursor has
// passed. At a Gap, read the log again from the cursor. After ErrDown or ErrSlow, begin anew.
//
// # Guaranteed
//
//   - Order: each subscription delivers its events in publish order, none twice.
//   - No silent loss: between two events that Next returns, Next returned every matching event that
//     was published, or a Gap in its place. A loss that no event follows is a Gap too. A
//     subscription that ends reports that, and why.
//   - Publish never waits, neither for a subscriber nor for an agent, and returns at once when the
//     bus is down.
//   - A slow subscriber does not affect any other: it has a buffer of its own, and its Policy
//     decides what happens when that buffer is full.
//   - An incarnation of the bus that is over delivers to no subscriber. Its subscriptions end with
//     ErrDown as soon as the first of its children ends, by error, panic or Goexit. They are not
//     carried over into the next incarnation, so a subscriber that subscribes again knows that it
//     has to catch up.
//   - An agent without a subscriber ends, whatever the order of joining and leaving. A subscriber
//     that has ended keeps no agent alive.
//   - Memory is bounded: a subscription holds at most its policy's Buffer events. The broker and
//     each agent hold at most twice Options.Mailbox events: those that wait and those in hand.
//
// # Not guaranteed
//
//   - Delivery: an event that was published with a nil error may be lost, visibly, through a full
//     mailbox, a full buffer, or the end of the bus.
//   - An order between the events of two goroutines that publish at the same time, or between the
//     events that two subscriptions have read.
//   - An exact count: the count of a Gap is an upper bound, as its doc says, and a Gap just after
//     Subscribe may count events that were published before.
//   - Isolation from filters. A filter whose Match hangs holds up the subscribers behind it, and no
//     others: the mailbox of its agent fills, and those subscribers get a gap. The get of an Equal
//     attribute holds up those behind all agents that share its index agent. The agent cannot be
//     killed while it hangs. Told to stop, it becomes an orphan of its supervisor, and subscribers
//     may learn of its end only then. A filter that panics ends its incarnation of the bus, for
//     all subscribers. Filters are code of the program; a Family checks what people type.
package pubsub
