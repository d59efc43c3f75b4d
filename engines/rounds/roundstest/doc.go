// Package roundstest simulates services of package rounds: n agents in one goroutine on virtual
// block time, with random delay, loss and order of payloads, kills of agents and agents that come
// back. A run is a function of its seed, so a failure can be played again.
package roundstest
