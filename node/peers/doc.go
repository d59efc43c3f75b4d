// Package peers is what the nodes of a chain tell each other about resets: where they stand, and
// how epochs ended. Source answers for this node, and Peer asks another one. A standing and the
// point of a reset are signed with the key of the node's agent, if the chain has agents. A
// certificate proves itself. Nothing that a peer says is believed without its signature or its
// proof, and no answer can be larger than a bound.
package peers
