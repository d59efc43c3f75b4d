package api

import (
	"net/http"
	"time"
)

// Unread serves requests whose body h does not read.
func Unread(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		unread(w, r)
		h.ServeHTTP(w, r)
	})
}

// unread waits for no more of the body of a request. Before the answer net/http throws away what a
// handler did not read, and waits for it as long as the connection may read: a body that never
// comes would hold the connection, which counts as one with a request in it that nobody closes for
// room (I8).
func unread(w http.ResponseWriter, r *http.Request) {
	if r.Body != http.NoBody {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now()) // a connection without deadlines is no client's
	}
}
