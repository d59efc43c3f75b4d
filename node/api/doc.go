// Package api serves a node over HTTP: NodeService (transactions in; results, state and status out)
// over a Core, and AdminService (the tree, kill, health) over a Host. This package declares both
// interfaces and package node implements them. The handlers depend on nothing but these interfaces.
//
// The protocol is Connect, which speaks JSON to curl:
//
//	curl -d '{}' -H 'content-type: application/json' \
//		localhost:7070/coppice.api.v1.NodeService/Status
//
// # Guarantees
//
//   - A batch stays whole: one Submit request is one Core.Submit call.
//   - Every input is limited (bytes of a body, transactions and keys of a request, time of a wait).
//     Input beyond a limit gets an error that names the field, the limit and the actual value.
//   - While the node is down, the API answers a request with unavailable and the reason. The client
//     may send the request again: the id of a transaction gives two submissions one effect.
//   - Once a newer incarnation of the api engine has opened a Gate, no request reaches the handler
//     of an older incarnation.
//
// # Non-guarantees
//
//   - If a request fails after it was sent, it is unknown whether its transactions were accepted.
//     Send them again.
package api
