package api

import (
	"fmt"
	"net/http"
	"slices"

	"connectrpc.com/connect"
)

// Guard returns a handler that passes a request to h only if the request has one of the tokens, as
// "authorization: Bearer <token>". The paths in open need no token. Guard is put around all
// handlers of a listener beyond loopback at once, so that none can be left unprotected by mistake.
func Guard(h http.Handler, tokens []string, open ...string) http.Handler {
	wire := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(open, r.URL.Path) {
			h.ServeHTTP(w, r)
			return
		}

		var err error

		for _, t := range tokens {
			if err = authorize(r.Header, t); err == nil {
				h.ServeHTTP(w, r)
				return
			}
		}

		unread(w, r)
		w.Header().Set("WWW-Authenticate", "Bearer")

		if wire.IsSupported(r) {
			_ = wire.Write(w, r, err) // if the client is gone, it does not read the error either
			return
		}

		status := http.StatusUnauthorized
		if connect.CodeOf(err) == connect.CodePermissionDenied {
			status = http.StatusForbidden
		}

		http.Error(w, fmt.Sprint(err), status)
	})
}
