// Package process makes an operating-system process an ordinary child of a supervision tree:
// started, probed until it is ready, restarted under the same rules as any child, stopped with a
// signal and a bound, and never left behind.
//
//	tree := supervisor.Spec{Name: "app", Build: supervisor.Children(process.Child(process.Spec{
//		Name: "db", Path: "/usr/bin/db", Args: []string{"-listen", sock}, Env: process.Inherit("PATH"),
//		Ready: process.Dial("unix", sock),
//	}))}
//
// The start of the child is acknowledged when its probe passes, so children after it may rely on
// it. What waits for the process and what reads its output are goroutines of the incarnation
// ([supervisor.Go]): the incarnation has not ended until its process has. A process that survives
// SIGKILL (it hangs in the kernel) therefore is an orphan in the supervisor's sense, reported and
// treated by the policy.
//
// Guaranteed:
//   - when the incarnation is told to end, for whatever reason (a stop, a kill, a panic, a Goexit
//     or a hang of the Go side), the process group gets TermSignal, after Grace SIGKILL, and is
//     waited for;
//   - when the process has ended, what is left of its group gets SIGKILL at once;
//   - memory for output is bounded, whatever the process writes;
//   - an end without having been asked is in supervisor.Exit.Err as an [*ExitError]: status,
//     signal, last lines on stderr. Whether status 0 is one is for [Spec.ExitZero] to say;
//   - a descendant that keeps stdout or stderr open delays the end by no more than DrainTime.
//
// # Die with the parent
//
// If this process is killed, nobody is left to send signals. Three means, of which the first two
// are always there:
//
//   - On Linux the kernel sends SIGKILL to the process (PR_SET_PDEATHSIG). It does so when the
//     forking thread ends, which in Go may be long before the program does; each process therefore
//     has an operating-system thread of its own, locked from before the fork until it has been
//     reaped. The kernel forgets the wish when a set-user-id program or one with file capabilities
//     is executed, and it does not reach grandchildren.
//   - Standard input is a pipe that nobody writes to and that reaches its end when this process has
//     ended. A re-executed Go child calls [WatchParent].
//   - [Spec.Guard] adds a process to the group that kills the whole group then, grandchildren too,
//     on any Unix.
//
// # Not guaranteed
//
// A descendant that leaves the group (setsid, setpgid) is beyond reach; the process itself is still
// signalled if it does so. On Windows there are no process groups of this kind, and no job object
// is used: a stop closes standard input, which is what [WatchParent] waits for, and after Grace
// kills the process alone; its own children live on, and so may the process if its parent is killed
// and it does not watch.
package process
