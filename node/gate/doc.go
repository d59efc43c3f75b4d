// Package gate makes the next block wait for sinks. A gate names sinks and says how many of them
// must have the blocks before, how far they may be behind, and what happens when they stay away.
//
// Decide is the rule: a pure function of the gate, of where its sinks stand, and of the time. Gates
// applies it. It stands between the consensus driver and ordering (Wrap), so that a block waits in
// the driver's own call: not in ordering, whose mailbox also serves Info and Commit, and never in
// Commit, where a consensus may hold locks.
//
// # Guarantees
//
//   - While a gate does not spill, and no sink of it is exempt or dropped, the block at height H
//     passes only when as many sinks as the gate needs are at H-1-max_lag or above.
//   - A block that the log has decided, or that has passed in this process with the same hash,
//     passes at once.
//   - A wait ends with its context, and takes the faults that are injected into its child.
//   - Of a sink only what it has itself said counts, in this process.
//
// # Non-guarantees
//
//   - A sink may lose what it has acknowledged. What an acknowledgment means is the sink's own
//     word, of which a gate only asks for a level.
package gate
