// Package replicated keeps the FSM of a service in the replicated state of a chain: the backend
// rounds.
//
// The parts of the FSM's state stand under chain.RoundsPrefix, each vote under a key of its own, so
// that a vote costs as much as itself and a block in which nothing happens writes nothing. They are
// in the app hash and in snapshots. A payload is a transaction: executing it is Advance and Admit.
// The hook at the end of each block is Advance and End. Together they are rounds.Machine.Step, and
// the tests compare them.
//
// The backend keeps no state of its own and reads no clock. It does not run behaviours, and does
// not send payloads.
package replicated
