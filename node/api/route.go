package api

import (
	"net/http"

	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// Route is a row of the host's table of routes.
type Route struct {
	Pattern string // of an http.ServeMux
	Handler http.Handler
	Class   RouteClass
}

// RouteClass says how the host limits the requests of a route.
type RouteClass uint8

const (
	// Plain routes answer at once and read no body. Only the number of connections limits them.
	Plain RouteClass = iota

	// Ask routes carry the requests of the admin service, which are few and small. They must be
	// answered whatever the node is doing (I8).
	Ask

	// Work routes carry transactions, reads and snapshots.
	Work

	// Stream routes go on until the client, the handler or the host ends them.
	Stream
)

// AdminRoutes returns the routes of the admin service: the tree, kills, status, health, and the
// events of src, also for browsers.
func AdminRoutes(h Host, src EventSource, token string, m Meter) []Route {
	path, handler := AdminHandler(h, token, WithMeter(m))
	return []Route{
		{path, handler, Ask},
		{apiv1connect.AdminServiceEventsProcedure, handler, Stream},
		{"/events", Unread(EventsHandler(src, "")), Stream},
		{"/healthz", Unread(LiveHandler(h)), Plain},
		{"/readyz", Unread(ReadyHandler(h)), Plain},
	}
}

// SnapshotRoutes returns the routes of the snapshot service.
func SnapshotRoutes(s Snapshots, token string) []Route {
	path, handler := SnapshotHandler(s, token)
	return []Route{
		{path, handler, Work},
		{apiv1connect.SnapshotServiceBackupProcedure, handler, Stream},
	}
}
