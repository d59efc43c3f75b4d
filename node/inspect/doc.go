// Package inspect makes the parts of a report about a running process that its other services do
// not show: profiles, the stacks of all goroutines, the configuration in force, the newest events
// of the tree, the disk.
//
// A part is made within a bound on its bytes and its time, and one at a time, so that a report does
// not cost a node in trouble what it still has. Making one neither waits for an engine nor changes
// anything. Redact takes secrets out of what is reported.
package inspect
