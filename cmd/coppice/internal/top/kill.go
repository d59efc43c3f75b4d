package top

import (
	"slices"

	tea "github.com/charmbracelet/bubbletea"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// killDialog asks before something is killed.
type killDialog struct {
	path string
	how  int // index of hows
	is   *apiv1.InspectChildResponse
	err  error
	up   *place // the supervisor
}

// hows are the ways to kill, in the order in which tab shows them.
var hows = []apiv1.How{apiv1.How_HOW_ERROR, apiv1.How_HOW_PANIC, apiv1.How_HOW_GOEXIT, apiv1.How_HOW_HANG,
	apiv1.How_HOW_STOP}

// means says what each way does.
var means = map[apiv1.How]string{
	apiv1.How_HOW_ERROR:  "it is told to stop, and ends as if it had returned an error",
	apiv1.How_HOW_PANIC:  "it panics in its own goroutine",
	apiv1.How_HOW_GOEXIT: "its goroutine ends without returning",
	apiv1.How_HOW_HANG:   "it handles nothing and ignores being told to stop, for a while",
	apiv1.How_HOW_STOP:   "an ordered stop of everything below, for an abnormal reason",
}

func (m *Model) mayKill() bool { return m.admin && m.options.mayAct() }

// name is what has to be typed: the last element of the path.
func (k *killDialog) name() string { return base(k.path) }

// askKill opens the dialog.
func (m *Model) askKill(path string) tea.Cmd {
	switch {
	case m.options.ReadOnly:
		m.note, m.noteRole = "no actions with --read-only", warn
		return nil
	case !m.options.Token:
		m.note, m.noteRole = "no actions without the admin token: --token, COPPICE_TOKEN or the home's", warn
		return nil
	case !m.mayKill():
		m.note, m.noteRole = "no actions: the node does not take this token as the admin token", warn
		return nil
	case path == "":
		return nil
	}

	m.kill = killDialog{path: path}
	if p := m.tree.by[path]; p != nil {
		m.kill.up = p.up
		if p.supervisor() {
			m.kill.how = slices.Index(hows, apiv1.How_HOW_STOP)
		}
	}
	m.mode, m.input = killing, ""

	return m.ask.consequences(path)
}

func (k *killDialog) learn(msg consequencesMsg) {
	if msg.path == k.path {
		k.is, k.err = msg.is, msg.err
	}
}

// lines shows what a kill does.
func (k *killDialog) lines(columns int) []line {
	how := hows[k.how]
	out := []line{nil, {in(bad, "Kill %s", k.path)}, nil,
		{text("by "), in(bold, "%s", word(how, "HOW_")), text(": %s", means[how])},
		{in(dim, "tab: another way")}, nil}

	switch {
	case k.err != nil:
		out = append(out, line{in(bad, "what follows is not known: %s", k.err)})
	case k.is == nil:
		out = append(out, line{in(dim, "asking what follows …")})
	default:
		out = append(out, title("What follows"))
		out = append(out, wrap(group(k.is.Child, k.is.RestartsWith), columns, bold)...)
		if k.up != nil {
			out = append(out, wrap("Limit used by "+k.up.Path+": "+limitUsed(k.up)+".", columns, normal)...)
			if k.up.near() || k.up.GetSpec().GetMaxRestarts() == 0 && !k.up.dynamic() {
				out = append(out, wrap("This restart is one too many: "+k.up.Path+
					" gives up, and the supervisor above it acts.", columns, bad)...)
			}
		}
	}

	return append(out, nil, line{text("Type "), in(bold, "%s", k.name()),
		text(" and press enter; esc leaves it alone.")})
}
