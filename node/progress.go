package node

import "github.com/coppice-go/coppice/node/progress"

// WithProgress makes the node call f every two seconds while a step of the start takes long, and
// once when such a step ends, so that a service manager's timeout can be extended. f must not wait.
func WithProgress(f func(progress.Step)) Option {
	return func(n *Node) { n.progress.Tells = append(n.progress.Tells, f) }
}

// Progress returns the step that the start is busy with; ok is false if there is none.
func (n *Node) Progress() (p progress.Step, ok bool) { return n.progress.Current() }
