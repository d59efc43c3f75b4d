package api

import (
	"net/http"
	"slices"
	"strings"

	"connectrpc.com/connect"
)

// Guard returns a handler that passes a request to h only if its token, which comes as
// "authorization: Bearer <token>", allows what the path needs. It is put around all handlers of a
// listener at once, so that none can be left unprotected by mistake. The paths in open need no
// token.
//
// A browser gets in by a session: see Login.
//
// If all is not set, which is for a listener that only this machine can reach, Guard refuses only
// requests with a token of the node that does not allow enough. It ignores a missing or unknown
// token there: the services that change the node check for themselves.
func Guard(h http.Handler, tokens Tokens, all bool, login Login, open ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		held, known := tokens.holds(r.Header)
		known = known && !held.expired()

		if all && !known && login.lets(r) {
			h.ServeHTTP(w, r)
			return
		}
		if all && !known && login.sends(w, r) {
			return
		}

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

// Login lets the browsers of those who have a session past a Guard, to pages that are no part of
// the API. The zero Login lets nobody.
type Login struct {
	Below string   // the pages are below this path
	Open  []string // paths that need no session, such as that of the page that begins one
	Page  string   // where a browser without a session is sent

	// Access returns what the session of a request allows; ok is false if it has none. The pages
	// check for themselves what more than reading needs.
	Access func(*http.Request) (a Access, ok bool)
}

// lets reports whether a request without a token may pass.
func (l Login) lets(r *http.Request) bool {
	if l.Below == "" || !strings.HasPrefix(r.URL.Path, l.Below) {
		return false
	}
	if slices.Contains(l.Open, r.URL.Path) {
		return true
	}
	a, ok := l.Access(r)
	return ok && a >= ReadAccess
}

// sends sends somebody who opens a page without a session to the one that begins it.
func (l Login) sends(w http.ResponseWriter, r *http.Request) bool {
	opens := r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html")
	if l.Below == "" || !opens || r.URL.Path != "/" && !strings.HasPrefix(r.URL.Path, l.Below) {
		return false
	}
	http.Redirect(w, r, l.Page, http.StatusSeeOther)
	return true
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
