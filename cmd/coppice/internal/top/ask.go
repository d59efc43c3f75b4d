package top

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"connectrpc.com/connect"
	tea "github.com/charmbracelet/bubbletea"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/eventline"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// Messages with answers of the node.
type (
	statusMsg struct {
		status *apiv1.StatusResponse
		host   *apiv1.HostStatusResponse // nil: not asked
		err    error
	}

	treeMsg     struct{ *apiv1.TreeDeltaResponse }
	treeLostMsg struct{ err error }
	crashesMsg  struct{ events []*apiv1.TreeEvent }

	troublesMsg struct{ list []*apiv1.Trouble }

	enginesMsg struct {
		engines []*apiv1.Engine
		err     error
	}

	placeMsg struct {
		path    string
		is      *apiv1.InspectChildResponse
		history *apiv1.HistoryResponse
		orphans []*apiv1.Orphan
		err     error
	}

	eventsMsg struct {
		lines []eventline.Line
		lost  uint64
		first bool // they replace what was there
		err   error
	}

	adminMsg        bool
	consequencesMsg struct {
		path string
		is   *apiv1.InspectChildResponse
		err  error
	}
	killedMsg struct {
		text string
		err  error
	}
)

// askTime is how long one poll may take.
const askTime = 5 * time.Second

// asker makes the commands that ask the node.
type asker struct {
	ctx  context.Context
	node *client.Client
	feed *feed
	more func(context.Context) (string, error) // of the rounds; nil: unknown
}

// call returns a command that runs f within askTime.
func (a asker) call(f func(ctx context.Context) tea.Msg) tea.Cmd {
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(a.ctx, askTime)
		defer cancel()
		return f(ctx)
	}
}

// status asks for the status. While the engines are down, the admin service knows why.
func (a asker) status(host bool) tea.Cmd {
	return a.call(func(ctx context.Context) tea.Msg {
		var m statusMsg
		m.status, m.err = a.node.Status(ctx)
		if connect.CodeOf(m.err) == connect.CodeUnavailable {
			if h, err := a.node.Health(ctx); err == nil {
				why := h.Readiness
				if why == nil {
					why = &apiv1.Readiness{State: "down", Reason: h.Reason}
				}
				m.status, m.err = &apiv1.StatusResponse{Readiness: why}, nil
			}
		}
		if host && m.err == nil {
			m.host, _ = a.node.HostStatus(ctx) // the status tells of a node that does not answer
		}
		return m
	})
}

func (a asker) crashes() tea.Cmd {
	return a.call(func(ctx context.Context) tea.Msg {
		h, err := a.node.History(ctx, &apiv1.HistoryRequest{Failures: true, Limit: maxCrashes})
		if err != nil {
			return nil // a node that is down, or an older one: the stream of the tree tells
		}
		return crashesMsg{h.Events}
	})
}

func (a asker) troubles() tea.Cmd {
	return a.call(func(ctx context.Context) tea.Msg {
		list, err := a.node.Troubles(ctx)
		if err != nil {
			return troublesMsg{} // a node that is down, or an older one: the status tells
		}
		return troublesMsg{append([]*apiv1.Trouble{}, list...)}
	})
}

func (a asker) engines() tea.Cmd {
	return a.call(func(ctx context.Context) tea.Msg {
		list, err := a.node.Engines(ctx)
		return enginesMsg{list, err}
	})
}

func (a asker) place(path string, deep bool) tea.Cmd {
	return a.call(func(ctx context.Context) tea.Msg {
		m := placeMsg{path: path}
		m.is, m.err = a.node.InspectChild(ctx, &apiv1.InspectChildRequest{Path: path, Goroutines: deep, State: deep})
		if m.err != nil {
			return m
		}
		var failed [2]error
		m.history, failed[0] = a.node.History(ctx, &apiv1.HistoryRequest{Path: path, Limit: 100})
		m.orphans, failed[1] = a.node.Orphans(ctx)
		m.err = errors.Join(failed[:]...)
		return m
	})
}

func (a asker) chain() tea.Cmd {
	return a.call(func(ctx context.Context) tea.Msg {
		var m chainMsg
		var failed [4]error
		m.blocks, failed[0] = a.node.Blocks(ctx, 0, blocksShown)
		m.pool, failed[1] = a.node.Pool(ctx, 20)
		m.peers, failed[2] = a.node.Peers(ctx)
		m.streams, failed[3] = a.node.Streams(ctx, "")
		for i, what := range []string{"blocks", "pool", "peers", "streams"} {
			if failed[i] != nil {
				m.missing = append(m.missing, what+": "+failed[i].Error())
			}
		}
		if a.more != nil {
			m.rounds, _ = a.more(ctx) // most chains have none
		}
		return m
	})
}

func (a asker) disk() tea.Cmd {
	return a.call(func(ctx context.Context) tea.Msg {
		var m diskMsg
		raw, err := a.node.Metrics(ctx)
		m.figures = parseFigures(raw)
		if err != nil {
			m.missing = append(m.missing, "metrics: "+err.Error())
		}
		if m.snapshots, err = a.node.Snapshots(ctx); err != nil {
			m.missing = append(m.missing, "snapshots: "+err.Error())
		}
		return m
	})
}

// admin asks whether the node takes the token for actions. The call changes nothing.
func (a asker) admin() tea.Cmd {
	return a.call(func(ctx context.Context) tea.Msg {
		_, err := a.node.Inspect(ctx, "")
		return adminMsg(err == nil || connect.CodeOf(err) == connect.CodeResourceExhausted)
	})
}

func (a asker) consequences(path string) tea.Cmd {
	return a.call(func(ctx context.Context) tea.Msg {
		is, err := a.node.InspectChild(ctx, &apiv1.InspectChildRequest{Path: path})
		return consequencesMsg{path, is, err}
	})
}

func (a asker) killChild(path string, how apiv1.How) tea.Cmd {
	return a.call(func(ctx context.Context) tea.Msg {
		k, err := a.node.Kill(ctx, path, how, 0)
		if err != nil {
			return killedMsg{err: err}
		}
		words := []string{"killed", k.Path, "#" + number(k.Incarnation), "by", word(k.How, "HOW_")}
		return killedMsg{text: strings.Join(words, " ")}
	})
}

// follow begins the events anew, with a filter. The tree's past is shown before them if there is no
// filter.
func (a asker) follow(filter string) tea.Cmd {
	return a.call(func(ctx context.Context) tea.Msg {
		m := eventsMsg{first: true}
		if filter == "" {
			if h, err := a.node.History(ctx, &apiv1.HistoryRequest{Limit: 100}); err == nil {
				for _, e := range h.Events {
					m.lines = append(m.lines, eventline.OfTree(e))
				}
			}
		}
		a.feed.send(m) // before any event
		a.feed.follow(filter)
		return nil
	})
}

func (a asker) pause(on bool) tea.Cmd {
	return func() tea.Msg {
		a.feed.pause(on)
		return nil
	}
}

// poll asks for what the active view shows. A poll that is under way is not repeated.
func (m *Model) poll() tea.Cmd {
	var all []tea.Cmd
	once := func(name string, cmd func() tea.Cmd) {
		if !m.busy[name] {
			m.busy[name] = true
			all = append(all, cmd())
		}
	}

	once("status", func() tea.Cmd { return m.ask.status(m.host == nil || m.ticks%10 == 0) })
	if m.paused || !m.link.up {
		return tea.Batch(all...)
	}

	once("troubles", m.ask.troubles)
	switch m.view {
	case overviewView:
		once("engines", m.ask.engines)
		once("chain", m.ask.chain)
	case topView:
		once("engines", m.ask.engines)
	case placeView:
		if path := cmp.Or(m.place.path, m.chosen); path != "" && !m.place.busy {
			m.place.path, m.place.busy = path, true
			all = append(all, m.ask.place(path, m.place.deep))
		}
	case chainView:
		once("chain", m.ask.chain)
	case diskView:
		once("disk", m.ask.disk)
	}

	return tea.Batch(all...)
}

// opened asks for what a view shows from the moment when it is opened.
func (m *Model) opened() tea.Cmd {
	if m.view == eventsView && !m.events.open && !m.paused {
		m.events.open = true
		return m.ask.follow(m.events.filter)
	}
	return nil
}
