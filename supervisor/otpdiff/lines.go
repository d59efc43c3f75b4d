package otpdiff

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/coppice-go/coppice/supervisor"
)

// lines returns the trace lines that the Erlang side would write for the same events. p.mu is held.
func (p *player) lines(events []supervisor.Event) []string {
	var out []string
	for _, e := range events {
		if line := p.line(e); line != "" {
			out = append(out, line)
		}
	}
	return out
}

func (p *player) line(e supervisor.Event) string {
	h := e.Head()
	l := p.lives[h.Incarnation]
	at := fmt.Sprintf("%s#%d", h.Path, l.n)
	if h.Path == "" {
		at = "root#1"
	}

	switch e := e.(type) {
	case supervisor.ChildStarting:
		return "start " + at

	case supervisor.ChildStopped:
		// A supervisor's end has an event of its own. The end of a child that had ended before is
		// a step of the history.
		if l.node.Sup == nil && (e.Exit.Stopped || e.Exit.Orphaned) {
			return "stop " + at + " " + exitReason(e.Exit, l.node)
		}

	case supervisor.SupervisorStopped:
		if p.up[h.Incarnation] {
			return "end " + at + " " + endReason(e.Err)
		}

	case supervisor.ChildStartFailed:
		if !e.Explicit {
			return "report start_error " + reported(h.Path, l.instance) + " " + startReason(e.Err)
		}

	case supervisor.ChildExited:
		if e.Reported {
			return "report child_terminated " + reported(h.Path, l.instance) + " " + exitReason(e.Exit, l.node)
		}

	case supervisor.ShutdownError:
		path, count := reported(h.Path, l.instance), ""
		if l.isDynamic() { // it reports its instances together
			path = join(h.Path, "*")
		}
		if e.Count > 1 {
			count = fmt.Sprintf(" x%d", e.Count)
		}
		return "report shutdown_error " + path + " " + exitReason(e.Exit, l.node) + count

	case supervisor.GaveUp:
		return "report gave_up " + reported(e.Err.Offender, l.isDynamic())
	}

	return ""
}

func (l life) isDynamic() bool { return l.node != nil && l.node.Sup != nil && l.node.Sup.Dynamic }

// reported returns the name of a child in a report. Instances of a dynamic supervisor have no name
// in OTP.
func reported(path string, instance bool) string {
	if instance {
		return join(parentOf(path), "*")
	}
	return path
}

func exitReason(x supervisor.Exit, n *Node) string {
	brutal := n != nil && n.Sup == nil && n.Shutdown == supervisor.Brutal && x.Stopped
	switch {
	case x.Orphaned || x.Killed || brutal: // OTP rule 60
		return "killed"

	case x.Panic != nil:
		return "panic"

	case x.Goexit:
		return "goexit"

	case x.Class == supervisor.Normal:
		return "normal"

	default:
		return endReason(x.Err)
	}
}

// endReason returns the reason of an end that is neither a panic nor a Goexit.
func endReason(err error) string {
	var gaveUp *supervisor.GiveUpError
	var auto *supervisor.AutoShutdownError

	switch {
	case err == nil:
		return "normal"

	case errors.As(err, &gaveUp), errors.As(err, &auto):
		return "shutdown"

	case errors.Is(err, supervisor.ErrKilled):
		return "killed"

	case errors.Is(err, errCrash):
		return "crash"

	case errors.Is(err, errDetail):
		return "shutdown:detail"

	case errors.Is(err, supervisor.ErrShutdown), errors.Is(err, context.Canceled):
		return "shutdown"

	default:
		return err.Error()
	}
}

// startReason returns why a start failed, with all levels of the error.
func startReason(err error) string {
	var nested *supervisor.StartError
	var panicked *supervisor.PanicError

	switch {
	case errors.As(err, &nested):
		return fmt.Sprintf("failed(%s: %s)", nested.ID, startReason(nested.Err))

	case errors.As(err, &panicked):
		return "panic"

	case errors.Is(err, errBoom):
		return "boom"

	case errors.Is(err, errGarbage), strings.Contains(err.Error(), "neither a service nor an error"):
		return "garbage"

	default:
		return err.Error()
	}
}

// normalize sorts the lines for which a dynamic supervisor has no order (OTP rule 74): consecutive
// stops of its instances, and the reports at its end.
func normalize(trace string, dynamic func(path string) bool) string {
	lines := strings.Split(trace, "\n")
	key := func(line string) string {
		f := strings.Fields(line)
		switch {
		case len(f) == 3 && f[0] == "stop" && dynamic(parentOf(f[1])):
			return "stop " + parentOf(f[1])
		case len(f) > 3 && f[0] == "report" && f[1] == "shutdown_error" && strings.HasSuffix(f[2], "/*"):
			return "report " + f[2]
		}
		return ""
	}

	for i := 0; i < len(lines); {
		j := i + 1
		if k := key(lines[i]); k != "" {
			for j < len(lines) && key(lines[j]) == k {
				j++
			}
			slices.Sort(lines[i:j])
		}
		i = j
	}

	return strings.Join(lines, "\n")
}

// dynamics returns the paths of the dynamic supervisors of a history.
func (h History) dynamics() map[string]bool {
	out := map[string]bool{}
	var walk func(path string, n *Node)
	walk = func(path string, n *Node) {
		if n.Sup == nil {
			return
		}
		out[path] = out[path] || n.Sup.Dynamic
		for i := range n.Sup.Children {
			walk(join(path, n.Sup.Children[i].ID), &n.Sup.Children[i])
		}
	}
	walk("", &h.Root)

	for _, s := range h.Steps {
		if s.Child != nil {
			walk(join(s.Path, s.Child.ID), s.Child)
		}
	}

	return out
}
