package supervisor

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// Discard is an Observer that ignores every event. By default, a tree writes its failures to the
// default logger of log/slog: abnormal ends and failed restarts, with the stack of a panic,
// give-ups and orphans. It leaves out what some observer gets, and all but the first few of a storm
// of them, and then says how many those were. As an observer of the root, Discard turns that off.
var Discard Observer = discard{}

type discard struct{}

// Observe does nothing.
func (discard) Observe(Event) {}

// In each window of reportWindow, at most reportsPerPath failures of one child or supervisor are
// written, and reportsInAll of a whole tree. The others are counted, and one line at the end of the
// window says how many there were. Alarms (give-ups, orphans, failed observers) have limits of
// their own, so that a storm of ends does not hide them.
const (
	reportWindow   = 10 * time.Second
	reportsPerPath = 5
	reportsInAll   = 50
)

// reports decides which of the events that no observer gets are written to the default logger of
// log/slog. hub.mu guards it.
type reports struct {
	sub     *subscription // nil once the logger has panicked
	lane    *lane
	written map[reportKey]int // in this window; with an empty path and all set, of the whole tree
	left    map[string]int    // left out in this window, by path
	timer   *time.Timer       // ends the window; nil if there is none
}

type reportKey struct {
	path       string
	all, alarm bool
}

// leftOut says how many reports were not written. Only the default logger gets it.
type leftOut struct {
	Header
	count int
	paths []string // those with most reports left out
}

// paths is how many paths leftOut names.
const leftOutPaths = 5

func (leftOut) isEvent() {}

func (e leftOut) String() string {
	return fmt.Sprintf("%s: %d more failures within %v were left out here (set Spec.Observers to get all): %s",
		e.Subject(), e.count, reportWindow, strings.Join(e.paths, ", "))
}

// severity returns the level of an event, and whether it is an alarm. ok is false if the event is
// no failure. The caller of a management call gets the failure of a start as an error.
func severity(e Event) (level slog.Level, alarm, ok bool) {
	switch e := e.(type) {
	case GaveUp, ChildOrphaned, ObserverFailed:
		return slog.LevelError, true, true

	case ChildExited:
		if e.Exit.Class != Abnormal {
			return slog.LevelWarn, false, e.Reported
		}
		return slog.LevelError, false, true

	case ChildStartFailed:
		return slog.LevelError, false, !e.Explicit

	case ShutdownError:
		return slog.LevelError, false, !e.Exit.Orphaned // an orphan has its own report

	case OrphanEnded:
		return slog.LevelWarn, false, true

	case leftOut:
		return slog.LevelWarn, true, true
	}

	return 0, false, false
}

// mayFail reports whether an entry can be a failure, for which severity wants its event.
func (e *entry) mayFail() bool {
	switch e.kind {
	case entryMade:
		return true
	case entryExited:
		return e.flag || e.exit.Class == Abnormal
	default:
		return false
	}
}

// reportLocked queues an event that no observer gets for the default logger, if it is a failure and
// within the limits.
func (h *hub) reportLocked(e *entry) {
	r := &h.reports
	if r.sub == nil || !e.mayFail() {
		return
	}
	_, alarm, ok := severity(e.event(h.root))
	if !ok {
		return
	}

	if r.timer == nil {
		r.written, r.left = map[reportKey]int{}, map[string]int{}
		r.timer = time.AfterFunc(reportWindow, h.endWindow)
	}

	path := e.path
	one, all := reportKey{path: path, alarm: alarm}, reportKey{all: true, alarm: alarm}
	if r.written[one] >= reportsPerPath || r.written[all] >= reportsInAll {
		r.left[path]++
		return
	}

	r.written[one]++
	r.written[all]++
	h.writeLocked(*e)
}

func (h *hub) writeLocked(e entry) {
	h.reports.sub.queue = append(h.reports.sub.queue, e)
	h.startLocked(h.reports.sub.lane)
}

// endWindow ends the window of the limits, and has the default logger say what was left out.
func (h *hub) endWindow() {
	h.mu.Lock()
	defer h.mu.Unlock()

	r := &h.reports
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
	if len(r.left) == 0 || r.sub == nil {
		return
	}

	e := leftOut{Header: Header{Time: time.Now(), Root: h.root}}
	paths := slices.SortedFunc(maps.Keys(r.left), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.left[b], r.left[a]), cmp.Compare(a, b))
	})
	for i, path := range paths {
		e.count += r.left[path]
		if i < leftOutPaths {
			e.paths = append(e.paths, fmt.Sprintf("%d of %s", r.left[path], Header{Root: h.root, Path: path}.Subject()))
		}
	}
	if more := len(paths) - leftOutPaths; more > 0 {
		e.paths = append(e.paths, fmt.Sprintf("and %d other paths", more))
	}

	r.left = nil
	h.writeLocked(entry{made: e})
}

// flushReports has the default logger write what waits for it, and what was left out. The end of a
// tree is often that of its process, so it waits for that, but not for ever.
func (h *hub) flushReports() {
	h.endWindow()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = h.flushLanes(ctx, h.reports.lane)
}

// defaultLogger is the observer that writes to log/slog's default logger, whichever that is by
// then.
type defaultLogger struct{}

// Observe writes one event.
func (defaultLogger) Observe(e Event) {
	level, _, _ := severity(e)
	handler := slog.Default().Handler()
	if !handler.Enabled(context.Background(), level) {
		return
	}

	h := e.Head()
	r := slog.NewRecord(h.Time, level, e.String(), 0)
	if h.Root != "" {
		r.AddAttrs(slog.String("root", h.Root))
	}
	r.AddAttrs(slog.String("path", h.Path))
	if h.Incarnation != 0 {
		r.AddAttrs(slog.Uint64("incarnation", h.Incarnation))
	}
	if stack := StackOf(e); stack != "" {
		r.AddAttrs(slog.String("stack", stack))
	}

	_ = handler.Handle(context.Background(), r) // a log that cannot be written cannot report that
}

// StackOf returns the stack of the panic or of the orphan that e reports, and "" for any other
// event.
func StackOf(e Event) string {
	switch e := e.(type) {
	case ChildExited:
		return e.Exit.Stack.String()
	case ShutdownError:
		return e.Exit.Stack.String()
	case OrphanEnded:
		return e.Exit.Stack.String()
	case ChildOrphaned:
		return e.Orphan.Stack
	}
	return ""
}
