// Package plugin is the sink that runs in a process of its own: a program that the operator names
// by absolute path and SHA-256, and that package sdk makes of any sink.
//
// # Guarantees
//
//   - What is executed is what was checked: the program is copied into memory that can no longer be
//     changed, the copy is hashed, and the copy is executed. Nothing is searched for, and no shell
//     takes part.
//   - The process has a group of its own, only the environment that the definition lists, limits of
//     memory and descriptors, and leaves no core file. It ends with the sink and with the node.
//   - A call that breaks off, and a process that shows no sign of life for ten seconds, end the
//     process with its group. The next Open starts another one.
//   - Memory for what it writes to standard error is bounded. The last lines stand in the error.
//
// # Non-guarantees
//
//   - Fence, resumption and the meaning of an acknowledgment are those of the plugin's sink.
//   - The process runs as the node's user: it can read what the node can read.
package plugin
