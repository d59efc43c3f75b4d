// Package plan specifies the supervision tree of a node: the strategy, restart type and limits of
// every child, as data in one place. `coppice tree --spec` prints it, and package node builds its
// supervisors from it.
package plan
