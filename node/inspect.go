package node

import (
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node/inspect"
)

// inspector returns what makes the parts of a report about this process.
func (n *Node) inspector() *inspect.Inspector {
	parts := append(inspect.Process(n.started), inspect.Config(n.config), inspect.Disk(n.home),
		inspect.Part{Name: "tree-events.jsonl", Make: n.news.Recent})

	if d, ok := n.driver.(consensus.Inspected); ok {
		for _, i := range d.Inspections() {
			parts = append(parts, inspect.Part{Name: i.Name, Make: i.Write})
		}
	}

	return inspect.New(parts...).WithApart(inspect.CPU())
}
