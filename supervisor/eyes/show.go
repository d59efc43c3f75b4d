package eyes

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

// firstRows is the number of places that the page has without its script.
const firstRows = 300

// row is a place as the page shows it.
type row struct {
	supervisor.Tree
	Depth int
}

// view is what the templates show.
type view struct {
	Title, Path string
	Nav         []Link
	Kill        bool
	Rows        []row
	More        int
	Health      string
	Bad         bool

	Place   supervisor.Tree
	Policy  string
	Exits   []exit
	Orphans []supervisor.Orphan
}

// exit is an event of a place's past.
type exit struct {
	Time        time.Time
	Text, Stack string
}

func (h *Handler) tree(w http.ResponseWriter, r *http.Request) {
	t := h.root.Tree()
	v := view{Title: h.title(t), Nav: h.options.Nav, Kill: h.mayKill(r)}
	running, other := 0, 0

	var walk func(t supervisor.Tree, depth int)
	walk = func(t supervisor.Tree, depth int) {
		if t.State == supervisor.Running {
			running++
		} else {
			other++
		}
		if len(v.Rows) < firstRows {
			v.Rows = append(v.Rows, row{t, depth})
		} else {
			v.More++
		}
		for _, c := range t.Children {
			walk(c, depth+1)
		}
	}
	walk(t, 1)

	v.Health, v.Bad = fmt.Sprintf("%d places run, %d do not", running, other), t.State != supervisor.Running
	h.render(w, r, "tree", v)
}

func (h *Handler) place(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Query().Get("path")
	t, err := h.root.Place(path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}

	v := view{Title: h.title(supervisor.Tree{ID: t.ID}), Path: path, Nav: h.options.Nav,
		Kill: h.mayKill(r) && path != "", Place: t}
	if ids, err := h.root.Group(path); err == nil && path != "" {
		v.Policy = policy(t, ids)
	}

	events := h.root.Events()
	for i := len(events) - 1; i >= 0 && len(v.Exits) < 50; i-- {
		if e := events[i]; e.Head().Path == path {
			v.Exits = append(v.Exits, exit{e.Head().Time, e.String(), supervisor.StackOf(e)})
		}
	}
	for _, o := range h.orphans.look(h.root) {
		if path == "" || o.Path == path || strings.HasPrefix(o.Path, path+"/") {
			v.Orphans = append(v.Orphans, o)
		}
	}

	h.render(w, r, "place", v)
}

// policy says what the supervisor of a place does when the place ends.
func policy(t supervisor.Tree, ids []string) string {
	when := map[supervisor.Restart]string{
		supervisor.Permanent: "whenever it ends", supervisor.Transient: "when it ends abnormally",
		supervisor.Temporary: "never",
	}[t.Restart]

	if t.Restart == supervisor.Temporary {
		return "It is temporary: it is never restarted."
	}
	if len(ids) == 1 {
		return fmt.Sprintf("It is restarted %s, alone.", when)
	}
	return fmt.Sprintf("It is restarted %s, and with it: %s.", when, strings.Join(ids, ", "))
}

func (h *Handler) render(w http.ResponseWriter, r *http.Request, name string, v view) {
	var b bytes.Buffer
	if err := page.ExecuteTemplate(&b, name, v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	Write(w, r, "text/html; charset=utf-8", b.Bytes())
}

// Write answers a request with data of a media type, compressed if the client takes that.
func Write(w http.ResponseWriter, r *http.Request, kind string, data []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Vary", "Accept-Encoding")
	if !packs(r) {
		_, _ = w.Write(data) // if the client is gone, it reads nothing
		return
	}

	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	_, _ = z.Write(data)
	_ = z.Close()
}

// packs reports whether the client takes gzip.
func packs(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") }

// orphanLook shares one reading of the goroutine profile, which stops the program for a moment,
// between all who ask within a second.
type orphanLook struct {
	mu   sync.Mutex
	at   time.Time
	list []supervisor.Orphan
}

func (o *orphanLook) look(root Root) []supervisor.Orphan {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.at) >= time.Second {
		o.list = root.Orphans()
		o.at = time.Now()
	}
	return o.list
}

func stateOf(t supervisor.Tree) string { return strings.ReplaceAll(t.State.String(), " ", "-") }

func ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return time.Since(t).Round(time.Second).String()
}

// limitOf says how much of its restart limit a supervisor has used.
func limitOf(t supervisor.Tree) string {
	if t.Kind == supervisor.Worker || t.Intensity.Period == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d in %v", t.InWindow, t.Intensity.Max, t.Intensity.Period)
}

// pack compresses with the best ratio.
func pack(data []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid
	_, _ = z.Write(data)                                  // a bytes.Buffer takes everything
	_ = z.Close()
	return b.Bytes()
}
