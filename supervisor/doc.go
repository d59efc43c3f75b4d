// Package supervisor gives any Serve(ctx) error service an OTP supervision tree. Children are
// started in order, restarted within a limit, and stopped in reverse order. A failure beyond the
// limit is handed to the level above.
//
// The semantics are those of Erlang/OTP's supervisor, rule by rule. "OTP rule 42" in a comment, and
// Rule42 in the name of a test, is rule 42 of docs/otp-rules.md. docs/otp-conformance.md names the
// tests of each rule and every place where Go had to differ.
//
// Guaranteed:
//
//   - every specified child is running, or restarting within its limit, or its supervisor has given
//     up and its parent knows;
//   - each incarnation of a child has fresh state, a number of its own, and a context that is
//     cancelled when the incarnation is replaced;
//   - no exit is lost: a return, an error, a panic, a runtime.Goexit, and the same in a goroutine
//     started with [Go];
//   - [Run.Tree], [Run.Kill] and [Run.Stop] never wait behind a child that hangs in its start or in
//     its stop;
//   - no goroutine of a child outlives the stop of its supervisor, except orphans, which are
//     reported.
//
// Not guaranteed: a goroutine cannot be killed. A child that ignores its context past its shutdown
// time is an orphan. An orphan is counted, reported with its stack, and treated by its
// [OrphanPolicy]. It may still run. Therefore it is fenced by its incarnation number, and each
// resource that it could write to must check that number; see [Lease].
//
// A [Spec] has [Child] specifications, [New] checks it, and [Supervisor.Start] or
// [Supervisor.Serve] runs it. A child uses its context with [Ready], [Go], [Link], [Faults],
// [Path], [Self] and [Recycle]. A [Dynamic] has any number of children of one kind, started on
// demand; a [Partition] has a fixed number of them, found by key. To watch a tree, use [Monitor],
// [Run.Tree], [Run.Orphans] and [Observer]. A tree without observers is not silent: its failures go
// to the default logger of log/slog, unless the root's observer is [Discard].
//
// Below this package, slogevents and zapevents log the events, treemetrics counts them, suptest
// tests trees, process runs operating-system processes as children, and suturecompat is suture's
// API on this engine.
//
// The contract of a service is suture's, unchanged: [Service] is suture.Service, suture's two
// sentinels keep their meaning, and a *[Supervisor] is itself a Service.
package supervisor
