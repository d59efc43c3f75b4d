package dashboard

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/events"
	"github.com/coppice-go/coppice/node/gate"
	"github.com/coppice-go/coppice/node/trouble"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor/eyes"
)

// view is what a page shows.
type view struct {
	Nav              []eyes.Link
	Name, Title      string
	Refresh          int // seconds; 0: never
	Paused, Followed string
	May              bool // the request comes from a session that may act
	Causes           bool // the request may read why streams fail, as StreamsService wants it
	Error, Said      string

	Health, Reason, Class string
	Host                  api.HostStatus
	Height                uint64
	Condition             *consensus.Condition
	Chain                 chain.State
	Troubles              []trouble.Trouble
	Failures              []*apiv1.TreeEvent
	Charts                []chart
	Engines               []api.EngineStat
	Filters               []pubsub.AgentStats
	Events                []*apiv1.TreeEvent
	Filter                string
	Blocks                []*apiv1.BlockInfo
	Pool                  *apiv1.PoolResponse
	Peers                 *apiv1.PeersResponse
	Slots                 []streams.Status
	Gates                 []gate.Status
	Rounds                *rounds.State[struct{}]
	Agents                []agent
	Epochs                []string
	Log                   eventlog.Stat
	Opened                bool
	Free, Size            uint64
}

// agent is an agent of the rounds.
type agent struct {
	Name  rounds.Agent
	Spoke bool
}

// After returns the time between a block of the page and the one before it.
func (v *view) After(i int) string {
	if i+1 >= len(v.Blocks) {
		return ""
	}
	return v.Blocks[i].Time.AsTime().Sub(v.Blocks[i+1].Time.AsTime()).Round(time.Millisecond).String()
}

func (d *Dashboard) overview(_ context.Context, _ *http.Request, v *view) {
	c := d.Host.Health()
	v.Host, v.Height = d.Host.Status(), c.Height

	switch {
	case c.Able() && len(c.Warnings) == 0:
		v.Health, v.Class = "ready", "running"
	case c.Able():
		v.Health, v.Reason, v.Class = "ready, with a warning", c.Warnings[0].Reason, "restarting"
	default:
		v.Health, v.Reason, v.Class = "not ready: "+string(c.State), c.Reason, "not-running"
	}

	v.Troubles = d.Looker.Troubles()
	h := api.History(d.Looker.Supervisor(), "", &apiv1.HistoryRequest{Failures: true, Limit: 10})
	slices.Reverse(h.Events)
	v.Failures = h.Events
	v.Charts = d.charts("txs", "blocks", "sync most", "mailbox most", "cpu", "heap")
}

func (d *Dashboard) top(_ context.Context, r *http.Request, v *view) {
	v.Engines = d.Looker.Engines()
	by := map[string]func(api.EngineStat) float64{
		"mailbox": func(e api.EngineStat) float64 { return float64(e.Len) },
		"age":     func(e api.EngineStat) float64 { return float64(e.Oldest) },
		"rate":    func(e api.EngineStat) float64 { return e.Rate },
		"busy":    func(e api.EngineStat) float64 { return e.BusyShare },
	}
	key, ok := by[r.URL.Query().Get("by")]
	if !ok {
		key = by["busy"]
	}
	slices.SortStableFunc(v.Engines, func(a, b api.EngineStat) int { return cmp.Compare(key(b), key(a)) })

	if d.Filters != nil {
		s := d.Filters()
		v.Filters = append([]pubsub.AgentStats{s.Broker}, s.Agents...)
		slices.SortStableFunc(v.Filters, func(a, b pubsub.AgentStats) int {
			return cmp.Or(cmp.Compare(b.Waiting, a.Waiting), cmp.Compare(b.Missed, a.Missed))
		})
	}
}

// shownEvents bounds the events of a page.
const shownEvents = 200

// filters is the language of the filters.
var filters = events.Filters()

// events shows what the tree remembers of what the filter matches. The script follows the rest.
func (d *Dashboard) events(_ context.Context, r *http.Request, v *view) {
	v.Filter = strings.TrimSpace(r.URL.Query().Get("filter"))
	match, err := filters.Parse(v.Filter)
	if err != nil {
		v.Error = "filter: " + err.Error()
		return
	}

	for _, e := range slices.Backward(d.Looker.Supervisor().Events()) {
		if !match.Match(engines.TreeChanged{Event: e}) {
			continue
		}
		if v.Events = append(v.Events, api.WithStack(e)); len(v.Events) == shownEvents {
			break
		}
	}
}

// lookTime bounds what one page waits for.
const lookTime = time.Second

func (d *Dashboard) chain(ctx context.Context, _ *http.Request, v *view) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()

	c := d.Host.Health()
	v.Condition = &c
	e := d.Explorer()
	if e == nil {
		v.Error = "the node is down: " + d.Host.Status().Reason
		return
	}

	var err error
	if v.Blocks, err = e.Blocks(ctx, 0, 20); err != nil {
		v.Error = err.Error()
	}
	if p, err := e.Pool(ctx, 20); err == nil {
		v.Pool = api.PoolOf(p)
	} else {
		v.Error = err.Error()
	}
	peers, n, err := e.Peers(ctx)
	v.Peers = api.PeersOf(peers, n, err)
}

func (d *Dashboard) streams(_ context.Context, r *http.Request, v *view) {
	a, ok := d.Access(r)
	v.Causes = ok && a >= api.SubmitAccess

	if d.Streams != nil {
		v.Slots = d.Streams()
	}
	if d.Gates != nil {
		v.Gates = d.Gates()
	}
}

func (d *Dashboard) rounds(ctx context.Context, _ *http.Request, v *view) {
	if d.Rounds == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()

	st, height, err := d.Rounds(ctx)
	switch {
	case err != nil:
		v.Error = err.Error()
		return
	case st.Count == 0: // no block yet
		return
	}

	v.Rounds, v.Height = &st, height
	for _, a := range st.Participants {
		spoke := slices.ContainsFunc(st.Ballot.Votes, func(x rounds.Vote) bool { return x.Agent == a })
		v.Agents = append(v.Agents, agent{a, spoke})
	}
}

func (d *Dashboard) resets(ctx context.Context, _ *http.Request, v *view) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()

	c := d.Host.Health()
	v.Condition = &c
	if d.Chain != nil {
		v.Chain = d.Chain()
	}

	if d.Epochs != nil {
		var err error
		if v.Epochs, err = d.Epochs(ctx); err != nil && !errors.Is(err, api.ErrUnavailable) {
			v.Error = err.Error()
		}
	}
}

func (d *Dashboard) disk(_ context.Context, _ *http.Request, v *view) {
	v.Log, v.Opened = d.Log()
	if d.Disk != nil {
		v.Free, v.Size, _ = d.Disk()
	}
	v.Charts = d.charts("syncs", "sync mean", "sync most")
}

func (d *Dashboard) login(_ context.Context, r *http.Request, v *view) {
	v.Nav = nil
	if v.Said = "Give a token of the node."; r.URL.Query().Has("refused") {
		v.Said = "This is no token of the node, or it has expired."
	}
}
