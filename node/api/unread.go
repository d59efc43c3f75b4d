package api

import (
	"net/http"
	"time"
)

// Unread returns a handler for requests whose body h does not read.
func Unread(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		unread(w, r)
		h.ServeHTTP(w, r)
	})
}

// unread stops waiting for the rest of a request's body. Before it sends the answer, net/http
// discards the part of the body that a handler did not read, and waits for it as long as the
// connection may read. A body that never comes would hold the connection, and the host would not
// close that connection to make room, because it counts as one with a request in it (I8).
func unread(w http.ResponseWriter, r *http.Request) {
	if r.Body != http.NoBody {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now()) // only a test's connection has no deadlines
	}
}
