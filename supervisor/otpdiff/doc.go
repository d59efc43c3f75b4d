// Package otpdiff compares package supervisor with Erlang/OTP's supervisor. Its tests generate
// random trees and histories, play each on both, and compare the traces line by line.
//
//	make otp-diff SEED=1 N=20000
//
// A history is data: a tree of three levels of supervisors, and steps (ends of children of each
// class, management calls from outside of the tree and from running children, stops). Gates order
// the steps that would race in one of the two systems. A child whose start or stop waits at a gate
// keeps its supervisor busy until the history opens the gate. Meanwhile ends and calls queue at
// that supervisor in the order of the history. So simultaneous deaths have one order, which is the
// same on both sides. After each step both sides run until nothing can run: in Erlang on one
// scheduler until its run queue is empty, in Go in a bubble of testing/synctest.
//
// The traces have, in order: starts with their incarnation, stops with their reasons, ends of
// supervisors, reports (OTP rules 36, 45, 58 and 78) and answers of calls; after each step,
// which_children and count_children of every supervisor that is not blocked; and the end.
// Incarnations are counted by path, and pids are replaced by these numbers.
//
// docs/otp-conformance.md lists the intended differences. Here they are avoided or mapped, at
// places that name the rule. No other differences are:
//
//   - rule 4: no history has automatic shutdown of a dynamic supervisor (OTP 25 accepts it);
//   - rule 15: while a start or stop hangs, only the supervisors that wait for it are asked to do
//     something, and none of them is told to end; gates are opened before the stop; starts have no
//     time limit in Go;
//   - rule 28: a blocked supervisor is not asked for which_children, though it would answer in Go;
//   - rule 41: only the timed histories let the window expire, and they do nothing in the second
//     after the period;
//   - rule 54: no instance of a dynamic supervisor answers ignore in a restart (OTP 25 keeps it,
//     without a process);
//   - rule 58: for permanent children, normal after having been told to end, and {shutdown, _}, are
//     not reports;
//   - rule 60: a child that OTP kills, at once or after its time, is an orphan under the policy
//     Abandon in Go; no supervisor is killed without its children;
//   - rules 24, 60: no child asks for its own stop, or for that of a supervisor above it. A call
//     that a child makes is the first that its supervisor serves, so that nothing tells the child
//     to end while it waits: in OTP the child would wait until it is killed, in Go its call ends;
//   - rules 71, 73: no start or stop of an instance of a dynamic supervisor hangs;
//   - rule 74: a dynamic supervisor stops its instances in no order, so these lines are sorted;
//   - rule 77: no history has an unknown call.
package otpdiff
