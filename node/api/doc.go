// Package api serves a node over HTTP: NodeService (transactions in; results, state and status out)
// over a Core, and AdminService (the tree, kill, health) over a Host. Both interfaces are
// declared here and package node implements them; the handlers are functions of them and of nothing
// else.
//
// The protocol is Connect, which speaks JSON to curl:
//
//	curl -d '{}' -H 'content-type: application/json' \
//		localhost:7070/coppice.api.v1.NodeService/Status
//
// # Guarantees
//
//   - A batch goes through whole: one Submit request is one Core.Submit call.
//   - Every input is bounded (bytes of a body, transactions and keys of a request, time of a wait),
//     and what passes a bound gets an error that names the field, the limit and what came.
//   - While the node is down a request answers unavailable with the reason, and may be sent again:
//     the id of a transaction makes two submissions one effect.
//   - A Gate that an older incarnation of the api engine opened passes nothing once a newer one has
//     opened it.
//
// # Non-guarantees
//
//   - An error after the request was sent leaves it unknown whether its transactions were accepted.
//     Send them again.
package api
