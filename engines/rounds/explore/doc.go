// Package explore searches all histories of a service of package rounds with few agents: each
// payload that the types of its rounds tell apart (rounds.Samples), from each agent, in each order,
// over blocks of any size, with and without time for the timeouts to fire. It is an exhaustive
// breadth-first search over states, so the history that it names for a finding is the shortest one.
//
// It finds what rounds.Service.Check cannot see in the tables, because it depends on the state and
// on the functions of the app: dead ends, loops, panics, and functions that are none of their
// arguments (each end of a round is played twice).
//
// Payloads that are refused change nothing but offences, which no round sees, so histories with
// late, early or false ones are left out. Two states that differ only in counts, in the period, in
// offences or by a shift of time are one.
package explore
