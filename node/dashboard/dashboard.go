// Package dashboard shows a node in a browser: its troubles, its tree, its engines, its events, its
// chain, its streams, its rounds and its disk. It is served on the node's own listener, below
// /dashboard/.
//
// The pages are made by the node and work without script; with script they follow what happens.
// Looking sends no message to an engine, but for the pool's figures, which have half a second. The
// mode Full lets somebody who came by a link of "coppice dashboard", or with the admin token, kill
// children, change the level of the diagnostics and download a diagnosis. Without such a session,
// and in the mode Read, the pages have no action, and the server refuses them.
//
// Where other machines reach the listener, a session is needed to look, too: see Login.
package dashboard

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/gate"
	"github.com/coppice-go/coppice/node/recorder"
	"github.com/coppice-go/coppice/node/trouble"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor/eyes"
)

// Mode says what the dashboard does.
type Mode string

// The modes.
const (
	Off  Mode = "off"  // there is none
	Read Mode = "read" // it shows
	Full Mode = "full" // it also acts, for those who came by a link or with the admin token
)

// Path is where the dashboard is.
const Path = "/dashboard/"

// Options are what a dashboard shows. All functions are safe for concurrent use and return at once,
// except those with a context. A function that is nil has nothing to show.
type Options struct {
	Mode     Mode
	Host     api.Host
	Looker   api.Looker
	Recorder *recorder.Recorder
	Explorer func() api.Explorer // nil while the node is down
	Log      func() (eventlog.Stat, bool)
	Chain    func() chain.State
	Disk     func() (free, size uint64, ok bool)
	Filters  func() pubsub.Stats
	Streams  func() []streams.Status
	Gates    func() []gate.Status
	Rounds   func(context.Context) (rounds.State[struct{}], uint64, error) // with the height of the state
	Epochs   func(context.Context) ([]string, error)                       // those that have ended, in words
	Tokens   api.Tokens
}

// Dashboard is the handler of the pages.
type Dashboard struct {
	Options
	eyes     *eyes.Handler
	mux      *http.ServeMux
	sessions sessions
}

var nav = []eyes.Link{
	{Name: "Overview", URL: Path}, {Name: "Tree", URL: Path + "tree/"}, {Name: "Top", URL: Path + "top"},
	{Name: "Events", URL: Path + "events"}, {Name: "Chain", URL: Path + "chain"},
	{Name: "Streams", URL: Path + "streams"}, {Name: "Rounds", URL: Path + "rounds"},
	{Name: "Resets", URL: Path + "resets"}, {Name: "Disk", URL: Path + "disk"},
}

//go:embed pages.html
var source string

//go:embed login.js
var loginScript []byte

//go:embed page.js
var pageScript []byte

var pages = template.Must(template.New("pages").Funcs(template.FuncMap{
	"ms":    func(d time.Duration) string { return d.Round(100 * time.Microsecond).String() },
	"short": func(b []byte) string { return fmt.Sprintf("%.12x", b) },
	"pct":   func(f float64) string { return fmt.Sprintf("%.1f %%", 100*f) },
	"rate":  func(f float64) string { return fmt.Sprintf("%.1f", f) },
	"mib":   mib,
	"clock": func(t *timestamppb.Timestamp) string { return t.AsTime().Local().Format("15:04:05.000") },
	"ago":   ago,
	"link":  linkOf,
	"join":  func(list []string) string { return strings.Join(list, ", ") },
	"inc":   func(i int) int { return i + 1 },
	"slot":  slotClass,
	"steps": func() int { return consensus.HoldSteps },
	"quorum": func(c consensus.Condition) bool {
		return 3*c.PowerPresent > 2*c.PowerTotal
	},
}).Parse(source))

func mib(n any) string {
	f := 0.0
	switch n := n.(type) {
	case int64:
		f = float64(n)
	case uint64:
		f = float64(n)
	}
	return fmt.Sprintf("%.1f MiB", f/(1<<20))
}

func ago(t time.Time) string { return max(0, time.Since(t)).Round(time.Second).String() }

// linkOf returns the page that shows more about a trouble.
func linkOf(t trouble.Trouble) string {
	switch t.Page {
	case trouble.TreePage, trouble.TopPage:
		path, _, _ := strings.Cut(t.Where, " #") // of an orphan
		if path == "" {
			return Path + string(t.Page)
		}
		return Path + "tree/place?path=" + url.QueryEscape(path)
	}
	return Path + string(t.Page)
}

func slotClass(s streams.State) string {
	switch s {
	case streams.Live:
		return "running"
	case streams.Starting, streams.CatchingUp, streams.Retrying, streams.Standby, streams.Paused, streams.Bootstrapping:
		return "restarting"
	}
	return "not-running" // it waits for an operator
}

// New returns the dashboard.
func New(o Options) *Dashboard {
	d := &Dashboard{Options: o, mux: http.NewServeMux()}
	d.eyes = eyes.New(root{o.Looker}, eyes.Options{Nav: nav, MayKill: d.mayAct})

	d.mux.Handle(Path+"tree/", http.StripPrefix(Path+"tree", d.eyes))
	d.mux.HandleFunc("GET "+Path+"eyes.css", func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = "/eyes.css"
		d.eyes.ServeHTTP(w, r)
	})
	for name, script := range map[string][]byte{"login.js": loginScript, "page.js": pageScript} {
		d.mux.HandleFunc("GET "+Path+name, func(w http.ResponseWriter, r *http.Request) {
			eyes.Write(w, r, "text/javascript; charset=utf-8", script)
		})
	}

	d.mux.Handle("GET "+Path+"events/stream", api.EventsHandler(o.Host))
	d.mux.HandleFunc("POST "+Path+"session", d.begin)
	d.mux.HandleFunc("POST "+Path+"level", d.acting(d.level))
	d.mux.HandleFunc("POST "+Path+"profile", d.acting(d.profile))
	d.mux.HandleFunc("GET "+Path+"diagnosis", d.diagnosis)
	for name, fill := range map[string]func(context.Context, *http.Request, *view){
		"{$}": d.overview, "top": d.top, "events": d.events, "chain": d.chain, "streams": d.streams,
		"rounds": d.rounds, "resets": d.resets, "disk": d.disk, "login": d.login,
	} {
		d.mux.HandleFunc("GET "+Path+name, d.page(name, fill))
	}

	return d
}

// Routes returns the routes of the dashboard; none if it is off.
func (d *Dashboard) Routes() []api.Route {
	if d.Mode == Off {
		return nil
	}
	return []api.Route{
		{Pattern: Path, Handler: d, Class: api.Ask},
		{Pattern: Path + "tree/deltas", Handler: d, Class: api.Stream},
		{Pattern: Path + "events/stream", Handler: d, Class: api.Stream},
		{Pattern: "/{$}", Handler: http.RedirectHandler(Path, http.StatusFound), Class: api.Plain},
	}
}

// ServeHTTP answers a request for a page.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	eyes.Secure(w)
	if why := eyes.Foreign(r); why != "" {
		http.Error(w, why, http.StatusForbidden)
		return
	}
	d.mux.ServeHTTP(w, r)
}

func (d *Dashboard) page(name string, fill func(context.Context, *http.Request, *view)) http.HandlerFunc {
	name = strings.Replace(name, "{$}", "overview", 1)
	title := strings.ToUpper(name[:1]) + name[1:]

	return func(w http.ResponseWriter, r *http.Request) {
		v := view{Nav: nav, Name: name, Title: title, Refresh: 2, May: d.mayAct(r)}
		q := r.URL.Query()
		if q.Has("pause") || name == "login" || name == "events" {
			v.Refresh = 0
		}
		q.Del("pause")
		v.Followed = "?" + q.Encode()
		q.Set("pause", "")
		v.Paused = "?" + q.Encode()
		fill(r.Context(), r, &v)

		var b bytes.Buffer
		if err := pages.ExecuteTemplate(&b, name, &v); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		eyes.Write(w, r, "text/html; charset=utf-8", b.Bytes())
	}
}
