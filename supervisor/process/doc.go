// Package process makes an operating-system process an ordinary child of a supervision tree. The
// process is started, probed until it is ready, restarted under the same rules as any child,
// stopped with a signal and a bound, and never left behind.
//
//	tree := supervisor.Spec{Name: "app", Build: supervisor.Children(process.Child(process.Spec{
//		Name: "db", Path: "/usr/bin/db", Args: []string{"-listen", sock},
//		Env: process.Inherit("PATH"), Ready: process.Dial("unix", sock),
//	}))}
//
// The start of the child is acknowledged when its probe passes, so children after it may rely on
// it. The goroutines that wait for the process and read its output belong to the incarnation
// ([supervisor.Go]), so the incarnation has not ended until its process has. A process that
// survives SIGKILL (because it hangs in the kernel) is therefore an orphan in the supervisor's
// sense: it is reported, and handled as the policy says.
//
// Guaranteed:
//   - when the incarnation is told to end, for whatever reason (a stop, a kill, a panic, a Goexit
//     or a hang of the Go side), the process group gets TermSignal and, after Grace, SIGKILL, and
//     the process is waited for;
//   - when the process has ended, the rest of its group gets SIGKILL at once, unless Spec.Kill is
//     [KillProcess], which spares it;
//   - a start that fails names what stood in the way: Dir, the program, its interpreter, the user;
//   - memory for output is bounded, whatever the process writes;
//   - a process that ends without having been asked to leaves an [*ExitError] in
//     supervisor.Exit.Err: its status, signal and last lines on stderr. [Spec.ExitZero] decides
//     whether this includes status 0;
//   - a descendant that keeps stdout or stderr open delays the end by no more than DrainTime.
//
// # Die with the parent
//
// If this process is killed, it can send no signals. Three other means end the child, of which the
// first two are always there:
//
//   - On Linux the kernel sends SIGKILL to the process (PR_SET_PDEATHSIG). It does so when the
//     forking thread ends, which in Go may be long before the program does. Each process therefore
//     has an operating-system thread of its own, locked from before the fork until the process has
//     been reaped. The kernel drops the setting when the process executes a set-user-id program or
//     one with file capabilities, and the setting does not apply to grandchildren.
//   - Standard input is a pipe that nobody writes to and that reaches its end when this process has
//     ended. A re-executed Go child calls [WatchParent].
//   - [Spec.Guard] adds a process to the group that then kills the whole group, grandchildren
//     included, on any Unix.
//
// # As PID 1
//
// The system gives orphans, whose parent has ended, to PID 1 of their PID namespace (the first
// process of a container), or to the nearest subreaper above them. If this process is one of these,
// it must reap them, or they stay as zombies. From the first Start on, this package does so for as
// long as the program runs, on Linux and with /proc mounted. It leaves a zombie alone if package os
// holds a pidfd of it, which os/exec does from the start of a process until it has been waited for,
// however late that is. A zombie in the group of a process of this package is reaped at once, any
// other after 2 s, so that code that waits by number (syscall.Wait4) comes first. Code that waits
// by number later than that loses the exit. On a system without pidfds (Linux before 5.4), only the
// groups of this package's processes are reaped.
//
// PID 1 also gets no default action for signals from within its namespace: a program without a
// handler for SIGTERM ignores it.
//
// # Graceful servers
//
// A server that ends its own workers wants its signal alone: [KillMixed]. A server whose workers
// finish their jobs when it has gone, or which is replaced by its own successor, is spared with
// [KillProcess]. To restart a server without refusing connections, pass it the listening socket
// ([Spec.Sockets], the protocol of systemd's socket activation).
//
// # Not guaranteed
//
// A descendant that leaves the group (setsid, setpgid) is not signalled any more. The process
// itself is still signalled after it has left the group. On Windows there are no process groups of
// this kind, and no job object is used. A stop there closes standard input, which is what
// [WatchParent] waits for, and after Grace kills the process alone. Its own children live on. The
// process itself may live on if its parent is killed and it does not call WatchParent.
package process
