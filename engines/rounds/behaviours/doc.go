// Package behaviours runs the agent of a node: the behaviours of the rounds that its service is in.
//
// Start makes a supervisor with two children. The follower reads the FSM's state after each
// committed block, starts a behaviour for each turn of the agent, and cancels the behaviours whose
// round has ended. On a chain that is idle it submits the ticks that bring the next block. The
// behaviours are dynamic children.
//
// # Guarantees
//
//   - A behaviour that fails or panics is started afresh, with backoff, until it has sent or its
//     round has ended. It gets the state of the last committed block.
//   - At most one payload is submitted for a count, in any number of restarts of behaviours,
//     engines and the process: before it sends, a behaviour looks for its payload among the
//     accepted transactions and then in the state. A payload that expires without a block is sent
//     again.
//   - A behaviour that ignores its cancellation becomes an orphan and does not hold up the next
//     round. What it returns is not sent.
//
// # Non-guarantees
//
//   - The function of a behaviour may run several times for one payload, because it runs before the
//     payload is accepted.
//   - Two processes with one key send two payloads. The second one is refused, and is an offence.
package behaviours
