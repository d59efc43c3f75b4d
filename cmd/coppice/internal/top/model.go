package top

import (
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/coppice-go/coppice/cmd/coppice/internal/eventline"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// view is one of the pages.
type view int

const (
	overviewView view = iota
	treeView
	placeView
	topView
	eventsView
	chainView
	diskView
	viewCount
)

// Views are the names of the views, in the order of their keys 1 to 7.
var Views = []string{"overview", "tree", "place", "top", "events", "chain", "disk"}

// mode says what the keys do.
type mode int

const (
	moving    mode = iota
	searching      // the input is what to search for in the tree
	filtering      // the input is the filter of the events
	killing        // the input is the name to type
	helping
)

// Model is the view of a node: see the package's documentation.
type Model struct {
	ask     asker // what the commands ask of the node
	options Options
	styles  styles
	clock   func() time.Time

	width, height int
	view          view
	mode          mode
	input         string
	note          string // what the last action brought
	noteRole      role
	paused        bool
	admin         bool // the node takes the token for actions
	adminAsked    bool

	link    link
	status  *apiv1.StatusResponse
	host    *apiv1.HostStatusResponse
	heights []heightAt
	crashes []*apiv1.TreeEvent // abnormal ends, oldest first
	trouble []*apiv1.Trouble   // what is wrong, the gravest first; nil: not known
	orphans uint32
	busy    map[string]bool // polls under way
	ticks   int

	tree    places
	chosen  string // path of the selected place
	folds   map[string]bool
	search  string
	scroll  [viewCount]int
	visible []string // paths of the rows on the screen, by row of the body

	engines  []*apiv1.Engine
	column   int
	reversed bool
	engine   string // path of the selected engine
	waiting  []float64
	rates    []float64

	place  placePage
	events eventsPage
	chain  chainPage
	disk   diskPage
	kill   killDialog
}

// link says whether the node answers.
type link struct {
	up    bool
	since time.Time // when it was lost
	why   string
	seen  bool // it has answered once
}

// heightAt is a height that the chain had at a moment.
type heightAt struct {
	at     time.Time
	height uint64
}

// eventsPage is what the view of events shows.
type eventsPage struct {
	open   bool // the events are followed
	filter string
	lines  []eventline.Line // oldest first
	why    string           // why there are no events
	lost   uint64
}

// Bounds of what a view keeps.
const (
	maxLines   = 1000
	maxCrashes = 200
	maxHeights = 60
	maxValues  = 200
)

// newModel returns the view before it knows anything.
func newModel(o Options, ask asker, s styles, clock func() time.Time) *Model {
	m := &Model{ask: ask, options: o, styles: s, clock: clock, width: 80, height: 24, folds: map[string]bool{},
		busy: map[string]bool{}, column: columnBusy}
	m.link.since = clock()
	for i, name := range Views {
		if name == o.View {
			m.view = view(i)
		}
	}
	return m
}

// Init implements tea.Model.
func (m *Model) Init() tea.Cmd { return tea.Batch(m.poll(), m.tick(), m.opened()) }

// tickMsg comes once in each interval.
type tickMsg struct{}

func (m *Model) tick() tea.Cmd {
	return tea.Tick(m.options.Interval, func(time.Time) tea.Msg { return tickMsg{} })
}

// Update implements tea.Model.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyMsg:
		return m, m.keys(msg)
	case tea.MouseMsg:
		return m, m.mouse(msg)
	case tickMsg:
		m.ticks++
		return m, tea.Batch(m.poll(), m.tick())
	default:
		return m, m.learn(msg)
	}

	return m, nil
}

// learn takes what the node has answered.
func (m *Model) learn(msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case statusMsg:
		return m.learnStatus(msg)
	case treeMsg:
		return m.learnTree(msg.TreeDeltaResponse)
	case treeLostMsg:
		if answered(msg.err) {
			m.note, m.noteRole = "the node does not show its tree: "+msg.err.Error(), bad
		} else {
			m.lost(msg.err)
		}
	case crashesMsg:
		m.learnCrashes(msg.events)
	case troublesMsg:
		m.busy["troubles"] = false
		m.trouble = msg.list
	case enginesMsg:
		m.busy["engines"] = false
		m.learnEngines(msg)
	case placeMsg:
		m.learnPlace(msg)
	case eventsMsg:
		m.learnEvents(msg)
	case chainMsg:
		m.busy["chain"] = false
		m.chain = chainPage(msg)
	case diskMsg:
		m.busy["disk"] = false
		m.disk = diskPage(msg)
	case adminMsg:
		m.admin = bool(msg)
	case consequencesMsg:
		m.kill.learn(msg)
	case killedMsg:
		m.note, m.noteRole = msg.text, good
		if msg.err != nil {
			m.note, m.noteRole = "not killed: "+msg.err.Error(), bad
		}
	}

	return nil
}

// lost notes that the node does not answer.
func (m *Model) lost(err error) {
	if m.link.up || m.link.why == "" {
		m.link.since = m.clock()
	}
	m.link.up, m.link.why = false, err.Error()
}

func (m *Model) learnStatus(msg statusMsg) tea.Cmd {
	m.busy["status"] = false
	if msg.err != nil {
		m.lost(msg.err)
		return nil
	}

	fresh := !m.link.up
	m.link = link{up: true, seen: true}
	m.status = msg.status
	if msg.host != nil {
		m.host = msg.host
	}

	if h := m.status.GetHeight(); h > 0 {
		m.heights = keep(append(m.heights, heightAt{m.clock(), h}), maxHeights)
	}

	var next []tea.Cmd
	if fresh {
		next = append(next, m.poll()) // the view need not wait for the next tick
	}
	if !m.adminAsked && m.options.mayAct() {
		m.adminAsked = true
		next = append(next, m.ask.admin())
	}

	return tea.Batch(next...)
}

func (m *Model) learnTree(d *apiv1.TreeDeltaResponse) (next tea.Cmd) {
	now := m.clock()
	if d.Snapshot != nil {
		m.tree.reset(d.Snapshot, now)
		m.crashes = nil // of another process, perhaps
		next = m.ask.crashes()
	}
	for _, c := range d.Changes {
		m.tree.apply(c, now)
	}
	m.orphans = d.Orphans

	for _, e := range d.Events {
		if e.Class == apiv1.ExitClass_EXIT_CLASS_ABNORMAL {
			m.crashes = keep(append(m.crashes, e), maxCrashes)
		}
	}

	if m.chosen == "" || m.tree.by[m.chosen] == nil && m.tree.root != nil {
		m.chosen = nearest(&m.tree, m.chosen)
	}

	return next
}

// learnCrashes takes the remembered failures, and those that came since.
func (m *Model) learnCrashes(events []*apiv1.TreeEvent) {
	var all []*apiv1.TreeEvent
	last := uint64(0)
	for _, e := range events {
		last = max(last, e.Seq)
		if e.Class == apiv1.ExitClass_EXIT_CLASS_ABNORMAL {
			all = append(all, e)
		}
	}
	for _, e := range m.crashes {
		if e.Seq > last {
			all = append(all, e)
		}
	}
	m.crashes = keep(all, maxCrashes)
}

// lastHour returns the number of crashes within the last hour.
func (m *Model) lastHour() (n int) {
	for _, e := range m.crashes {
		if m.clock().Sub(e.Time.AsTime()) <= time.Hour {
			n++
		}
	}
	return n
}

func (m *Model) learnEvents(msg eventsMsg) {
	e := &m.events
	e.lost += msg.lost
	e.why = ""
	if msg.err != nil {
		e.why = msg.err.Error()
	}
	if msg.first {
		e.lines = nil
	}
	e.lines = keep(append(e.lines, msg.lines...), maxLines)
	if m.scroll[eventsView] > 0 { // stay at what is being read
		m.scroll[eventsView] = min(m.scroll[eventsView]+len(msg.lines), len(e.lines))
	}
}

// keep returns the newest n of list.
func keep[T any](list []T, n int) []T { return list[max(0, len(list)-n):] }
