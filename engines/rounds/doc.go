// Package rounds runs agreed state machines: the inputs of an FSM are committed blocks, so every
// node of a chain makes the same transitions at the same heights.
//
// A Table lists the rounds of one app. Each Round collects payloads of agents and ends with an
// Event; the table says which round follows. Compose links tables to a Service.
//
// Step is the whole machine: a pure function of the service, the state and a block. It reads no
// clock but the block's time, does no I/O, and never depends on the order of a map. Its three parts
// (Advance, Admit, End) are what a node calls while it executes a block.
//
// The package is a library: it starts no goroutine, and it does not know how a payload is sent or
// where the state is stored. Running the behaviours of agents is the business of other packages.
package rounds
