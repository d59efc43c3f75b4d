// Package eyes shows a supervision tree in a browser: one http.Handler for any tree. It needs the
// standard library and the supervisor only.
//
//	eye := eyes.New(root, eyes.Options{})
//	http.Handle("/tree/", http.StripPrefix("/tree", eye))
//
// The pages work without script; with script, the tree follows what happens at most ten times a
// second, at the cost of what changes (see supervisor.Watch). Looking never waits for a child, and
// a page that is closed leaves nothing behind. By default nothing can be changed.
//
// The handler answers every request that reaches it, so serve it where only those who may look can
// ask. It refuses what a browser asks for a page of another site, and it cannot be framed.
package eyes

import (
	"cmp"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/coppice-go/coppice/supervisor"
)

// Root is a tree: a *supervisor.Supervisor, or any that has its methods.
type Root interface {
	Tree() supervisor.Tree
	Place(path string) (supervisor.Tree, error)
	Group(path string) ([]string, error)
	Watch() (*supervisor.Watch, error)
	Events() []supervisor.Event
	Orphans() []supervisor.Orphan
	Kill(path string, reason error) error
}

// Options configure a Handler. The zero value is a page that only shows.
type Options struct {
	// Title is the heading; empty: the name of the root.
	Title string

	// Nav are links to other pages, shown above the tree.
	Nav []Link

	// MayKill reports whether the sender of a request may kill children. Nil: nobody may. The pages
	// of others have no action in them, and their requests are refused.
	MayKill func(*http.Request) bool

	// Watches is the number of pages that may follow the tree at once; 0 means 64.
	Watches int
}

// Link is a link to another page.
type Link struct{ Name, URL string }

// ErrByHand is in the exit of a child that was killed through the page.
var ErrByHand = errors.New("killed through the page of the tree")

//go:embed static
var static embed.FS

//go:embed page.html
var pages string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"ago": ago, "limit": limitOf, "word": stateOf,
}).Parse(pages))

// Handler shows a tree. It is safe for concurrent use.
type Handler struct {
	root    Root
	options Options
	mux     *http.ServeMux
	open    atomic.Int64
	orphans orphanLook
}

// New returns the Handler of a tree.
func New(root Root, o Options) *Handler {
	if o.Watches <= 0 {
		o.Watches = 64
	}
	h := &Handler{root: root, options: o, mux: http.NewServeMux()}
	h.mux.HandleFunc("GET /{$}", h.tree)
	h.mux.HandleFunc("GET /place", h.place)
	h.mux.HandleFunc("GET /deltas", h.deltas)
	h.mux.HandleFunc("POST /kill", h.kill)
	h.mux.HandleFunc("GET /eyes.js", asset("eyes.js", "text/javascript; charset=utf-8"))
	h.mux.HandleFunc("GET /eyes.css", asset("eyes.css", "text/css; charset=utf-8"))

	return h
}

// ServeHTTP answers a request for a page, for the changes of the tree, or for a kill.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	Secure(w)
	if why := Foreign(r); why != "" {
		http.Error(w, why, http.StatusForbidden)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// Secure sets the headers of every answer: nothing is loaded from another origin, no inline script
// runs, and no page frames it.
func Secure(w http.ResponseWriter) {
	head := w.Header()
	head.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; "+
		"img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
	head.Set("X-Frame-Options", "DENY")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Referrer-Policy", "same-origin")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	head.Set("Cache-Control", "no-store")
}

// Foreign returns why a request is refused: a browser sent it for a page of another site, or would
// show the answer in a frame. Clients other than browsers send none of these headers. A link from
// another site may be followed.
func Foreign(r *http.Request) string {
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")

	switch r.Header.Get("Sec-Fetch-Dest") {
	case "iframe", "frame", "embed", "object":
		return "this page cannot be framed"
	}

	follows := r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate"
	if (site == "cross-site" || site == "same-site") && !follows {
		return "the request comes from a page of another site"
	}

	if origin != "" && site != "same-origin" {
		if u, err := url.Parse(origin); err != nil || !strings.EqualFold(u.Host, r.Host) {
			return "the request comes from a page of another origin"
		}
	}

	return ""
}

func asset(name, kind string) http.HandlerFunc {
	data, err := static.ReadFile("static/" + name)
	if err != nil {
		panic(err) // it is embedded
	}
	packed := pack(data)

	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Vary", "Accept-Encoding")
		if packs(r) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(packed) // if the client is gone, it reads nothing
			return
		}
		_, _ = w.Write(data)
	}
}

func (h *Handler) mayKill(r *http.Request) bool {
	return h.options.MayKill != nil && h.options.MayKill(r)
}

func (h *Handler) title(t supervisor.Tree) string { return cmp.Or(h.options.Title, t.ID, "tree") }

// kill ends the child that the form names. Only a script of the page can set the header.
func (h *Handler) kill(w http.ResponseWriter, r *http.Request) {
	if !h.mayKill(r) {
		http.Error(w, "this page is read-only", http.StatusForbidden)
		return
	}
	if r.Header.Get("X-Coppice") == "" {
		http.Error(w, "want the header X-Coppice", http.StatusForbidden)
		return
	}

	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	path, name := r.PostFormValue("path"), r.PostFormValue("name")
	id := path[strings.LastIndexByte(path, '/')+1:]
	if path == "" || name != id {
		http.Error(w, "name: want the last element of the path, "+id, http.StatusBadRequest)
		return
	}

	if err := h.root.Kill(path, ErrByHand); err != nil {
		code := http.StatusConflict
		if errors.Is(err, supervisor.ErrNotFound) {
			code = http.StatusNotFound
		}
		http.Error(w, err.Error(), code)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
