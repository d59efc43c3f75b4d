package api

import (
	"net/http"
	"time"

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
	// Plain routes answer at once and read no body. There may be as many at once as connections.
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
func AdminRoutes(h Host, src EventSource, tokens Tokens, m Meter) []Route {
	path, handler := AdminHandler(h, tokens, WithMeter(m))
	return []Route{
		{path, handler, Ask},
		{apiv1connect.AdminServiceInspectProcedure, answerWithin(inspectTime, handler), Ask},
		{apiv1connect.AdminServiceEventsProcedure, handler, Stream},
		{apiv1connect.AdminServiceTreeDeltaProcedure, handler, Stream},
		{"/events", Unread(EventsHandler(src)), Stream},
		{"/healthz", Unread(LiveHandler(h)), Plain},
		{"/readyz", Unread(ReadyHandler(h)), Plain},
	}
}

// inspectTime bounds one call of Inspect, with the time in which the client takes the answer.
const inspectTime = time.Minute

// FollowRoute returns the route of the call that streams the records of the log, which h serves. It
// counts as work, because the node reads its log for it.
func FollowRoute(h http.Handler) Route {
	return Route{apiv1connect.NodeServiceFollowProcedure, unhurried(h), Work}
}

// answerWithin returns a handler whose answer, which may be long, has to be taken within d. A
// client that is slower loses its connection.
func answerWithin(d time.Duration, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.SetWriteDeadline(time.Now().Add(d)) // only a test's connection has no deadlines
		h.ServeHTTP(w, r)
	})
}

// SnapshotRoutes returns the routes of the snapshot service.
func SnapshotRoutes(s Snapshots, tokens Tokens) []Route {
	path, handler := SnapshotHandler(s, tokens)
	return []Route{
		{path, unhurried(handler), Work},
		{apiv1connect.SnapshotServiceBackupProcedure, handler, Stream},
	}
}
