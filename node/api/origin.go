package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// SameOrigin returns a handler that refuses what a browser requests for a page of another site,
// unless allowed returns the origin of that page. A page of another site could otherwise submit
// transactions through the browser of somebody who may reach the node. A link to the node may be
// followed. Clients other than browsers send neither of the headers that are checked.
func SameOrigin(h http.Handler, allowed func() []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := sameOrigin(r, allowed()); err != nil {
			Refuse(w, r, err)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// behindProxy is advice for a page of the node whose requests seem to be of another origin.
const behindProxy = "if it is a page of this node behind a proxy, let the proxy pass the Host header on (nginx: " +
	"\"proxy_set_header Host $http_host;\") and name that host in allowed_hosts of coppice.toml; to let in a page of " +
	"another site, name its origin in allowed_origins"

// sameOrigin returns an error if a browser made the request for a page of another site. A page can
// set neither Origin nor Sec-Fetch-Site.
func sameOrigin(r *http.Request, allowed []string) error {
	origin, site := r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site")

	switch {
	case site == "same-origin", site == "none", // by the browser, whatever Host a proxy has put there
		origin != "" && slices.Contains(allowed, strings.ToLower(origin)),
		origin == "" && site == "",
		origin == "" && follows(r):
		return nil

	case origin == "":
		return denied("the request comes from a page of another site, which may not read this; %s", behindProxy)
	}

	if u, err := url.Parse(origin); err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host) && site == "" {
		return nil
	}

	return denied("origin: %q is not %q: a page of another site may not read this; %s", origin, r.Host, behindProxy)
}

// follows reports whether a browser shows the answer as a page, and not to a script. The API is not
// for that: even a read may order a transaction.
func follows(r *http.Request) bool {
	return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" &&
		!strings.HasPrefix(r.URL.Path, servicePrefix)
}
