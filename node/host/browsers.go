package host

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"connectrpc.com/cors"
	rs "github.com/rs/cors"

	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
)

// Names are what the configuration says about the requests of browsers, all in lower case.
type Names struct {
	Hosts   []string // by which clients may address the listener, besides the machine's own
	Origins []string // of the pages of other sites that may call the node
}

// protocols returns the protocols of the listener: HTTP/1.1, and HTTP/2 also without TLS (with
// prior knowledge), which is what gRPC clients speak.
func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)

	return p
}

// guarded returns next behind everything that decides whether a request is served at all: the name
// by which the client addresses the listener, the origin of the page that a browser shows, and the
// token. It is around all routes, so that none can be left unprotected by mistake. If other
// machines can reach the listener, every request needs a token, except the health checks.
func (h *Host) guarded(next http.Handler) http.Handler {
	all := !h.local()
	next = api.Guard(next, h.Tokens, all, h.login, "/healthz", "/readyz", api.HealthCheckProcedure,
		api.HealthWatchProcedure)
	next = api.SameOrigin(next, func() []string { return h.names.Load().Origins })
	next = h.crossOrigin(next)

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h.addressed(r.Host); err != nil {
			api.Refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// local reports whether only this machine can reach the listener.
func (h *Host) local() bool {
	host, _, _ := net.SplitHostPort(h.Listen) // validated with the configuration
	return config.Loopback(host)
}

// addressed returns an error if a request with the header Host is not meant for this listener. A
// page of another site can make its own name point to a loopback address (DNS rebinding). Its
// requests then seem to be of the node's own origin, and only the name tells them apart. Beyond
// loopback, the token does, and the node cannot know its names; the names are checked there if the
// configuration has some.
func (h *Host) addressed(header string) error {
	name := hostname(header)
	hosts := h.names.Load().Hosts
	ip := net.ParseIP(name)

	switch {
	case name == "": // no browser leaves it out
	case !h.local() && (len(hosts) == 0 || ip != nil): // nobody's name points to another site then
	case name == "localhost", ip != nil && ip.IsLoopback():
	case name == hostname(h.Listen), slices.Contains(hosts, name):
	default:
		return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("host: %q is no name of this node, want "+
			"localhost, an address of this machine, or one of allowed_hosts in %s; behind a proxy, name the host that "+
			"it passes on (nginx passes the name of its upstream unless it has \"proxy_set_header Host $http_host;\")",
			header, config.FileName))
	}

	return nil
}

// hostname returns the name in host or host:port, in lower case and without the dot of the root.
func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		hostport = host
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(hostport, "[]"), "."))
}

// crossOrigin returns next with the headers by which a browser lets pages of the allowed origins
// call the node (CORS). It answers the preflight requests, which never have a token.
func (h *Host) crossOrigin(next http.Handler) http.Handler {
	return rs.New(rs.Options{
		AllowOriginFunc: func(origin string) bool {
			return slices.Contains(h.names.Load().Origins, strings.ToLower(origin))
		},
		AllowedMethods:      cors.AllowedMethods(),
		AllowedHeaders:      append(cors.AllowedHeaders(), "Authorization", "Last-Event-ID", "Cache-Control"),
		ExposedHeaders:      append(cors.ExposedHeaders(), "Retry-After"),
		AllowPrivateNetwork: true,
		MaxAge:              7200, // seconds; browsers cut it
	}).Handler(next)
}
