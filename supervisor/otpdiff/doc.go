// Package otpdiff compares package supervisor with Erlang/OTP's supervisor: it draws trees and
// histories at random, plays each on both, and compares what happened, line by line.
//
//	make otp-diff SEED=1 N=20000
//
// A history is data: a tree of three levels of supervisors, and steps (ends of children of each
// class, management calls, stops). Steps that would race in one of the two systems are ordered by a
// gate: a child whose start, or whose stop, waits until the history opens it keeps its supervisor
// busy, while ends and calls queue in front of that in the order of the history. So simultaneous
// deaths have one order, and it is the same on both sides. After each step both sides run until
// nothing can run: in Erlang on one scheduler with an empty run queue, in Go in a bubble of
// testing/synctest.
//
// Compared are, in order: starts with their incarnation, stops with their reasons, ends of
// supervisors, reports (OTP rules 36, 45, 58 and 78), answers of calls; after each step
// which_children and count_children of every supervisor that is not blocked; and the end.
// Incarnations are counted by path, pids are turned into these numbers.
//
// What differs by intention is in docs/otp-conformance.md. It is avoided here or mapped, each place
// with its rule number, and nothing else is:
//
//   - rule 4: no automatic shutdown of a dynamic supervisor is drawn (OTP 25 accepts it);
//   - rule 15: while something hangs nothing is told to end but by those that wait for it, gates
//     are opened before the stop, and starts are without a bound in Go;
//   - rule 28: what a blocked supervisor answers to which_children is not asked for, though in Go
//     it would answer;
//   - rule 41: only the set of timed histories lets the window expire, and stays away from the
//     second after the period;
//   - rule 54: no instance of a dynamic supervisor answers ignore in a restart (OTP 25 keeps it,
//     without a process);
//   - rule 58: normal after having been told, and {shutdown, _}, are no reports of permanent
//     children;
//   - rule 60: what is killed by OTP, at once or after its time, is an orphan under the policy
//     Abandon in Go; no supervisor is killed without its children;
//   - rules 71, 73: no start or stop of an instance of a dynamic supervisor hangs;
//   - rule 74: a dynamic supervisor stops its instances in no order, so these lines are sorted;
//   - rule 77: there is no unknown call.
package otpdiff
