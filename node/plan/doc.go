// Package plan is the specified tree: strategies, restart types and limits of every child, as data
// in one place. `coppice tree --spec` prints it, and package node builds its supervisors from it.
package plan
