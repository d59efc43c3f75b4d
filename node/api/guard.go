package api

import (
	"net/http"
	"slices"

	"connectrpc.com/connect"
)

// Guard returns a handler that passes a request to h only if its token, which comes as
// "authorization: Bearer <token>", allows what the path needs. It is put around all handlers of a
// listener at once, so that none can be left unprotected by mistake. The paths in open need no
// token.
//
// If all is not set, which is for a listener that only this machine can reach, Guard refuses only
// requests with a token of the node that does not allow enough. It ignores a missing or unknown
// token there: the services that change the node check for themselves.
func Guard(h http.Handler, tokens Tokens, all bool, open ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		held, known := tokens.holds(r.Header)
		known = known && !held.expired()

		if !slices.Contains(open, r.URL.Path) && (all || known) {
			if err := tokens.authorize(r.Header, need(r.URL.Path)); err != nil {
				Refuse(w, r, err)
				return
			}
		}

		if known {
			r = r.WithContext(withAccess(r.Context(), held.Access))
		}

		h.ServeHTTP(w, r)
	})
}

// refusing writes errors in the protocol of the request.
var refusing = connect.NewErrorWriter()

// Refuse answers a request with an error, in the protocol of the request if it knows that, and
// otherwise as text.
func Refuse(w http.ResponseWriter, r *http.Request, err error) {
	unread(w, r)

	if connect.CodeOf(err) == connect.CodeUnauthenticated {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}

	if refusing.IsSupported(r) {
		_ = refusing.Write(w, r, err) // if the client is gone, it does not read the error either
		return
	}

	httpError(w, err)
}
