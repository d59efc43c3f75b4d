package node

import "github.com/coppice-go/coppice/node/progress"

// WithProgress calls f every two seconds while a step of the start takes long, and once when such a
// step ends, so that a service manager's time-out can be extended. f must not wait.
func WithProgress(f func(progress.Step)) Option {
	return func(n *Node) { n.progress.Observers = append(n.progress.Observers, f) }
}

// Progress is what the start is busy with; ok is false when it is not.
func (n *Node) Progress() (p progress.Step, ok bool) { return n.progress.Current() }
