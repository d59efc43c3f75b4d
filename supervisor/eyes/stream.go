package eyes

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

const (
	pause   = 100 * time.Millisecond // between two messages
	stalled = 30 * time.Second       // a client that has not read by then is cut off
	alive   = 10 * time.Second       // how long the stream is silent at most
)

// node is a place in the messages of a stream. Fields with their zero value are left out.
// Incarnation and Since are differences to the place before, in the order of the message and
// beginning with 0, because the places of a large tree differ little and the message then packs to
// half.
type node struct {
	ID          string  `json:"i"`
	Kind        int     `json:"k,omitempty"` // 1: a supervisor, 2: a dynamic one
	State       string  `json:"s,omitempty"` // left out: running
	Incarnation int64   `json:"n,omitempty"`
	Since       int64   `json:"t,omitempty"` // Unix milliseconds; of a place that never ran it is 0
	Restarts    uint64  `json:"r,omitempty"`
	Exit        string  `json:"x,omitempty"`
	Limit       string  `json:"l,omitempty"`
	Instances   int     `json:"d,omitempty"`
	Children    []*node `json:"c,omitempty"`
}

type change struct {
	Path  string `json:"p"`
	Node  *node  `json:"o,omitempty"` // nil: the place is gone
	Whole bool   `json:"w,omitempty"`
}

type message struct {
	Seq      uint64   `json:"seq"`
	Tree     *node    `json:"tree,omitempty"` // in the first message
	Changes  []change `json:"changes,omitempty"`
	Events   uint64   `json:"events,omitempty"`   // since the message before
	Failures []string `json:"failures,omitempty"` // of those, the newest that are kept
	Orphans  int      `json:"orphans"`
}

const (
	longestExit  = 200
	mostFailures = 10 // in a message
)

func nodeOf(t supervisor.Tree) *node { return new(coder).node(t) }

// coder has the values of the place before.
type coder struct{ incarnation, since int64 }

func (d *coder) node(t supervisor.Tree) *node {
	n := &node{ID: t.ID, Kind: int(t.Kind), Restarts: t.Restarts, Limit: limitOf(t), Instances: t.Instances}
	if t.State != supervisor.Running {
		n.State = stateOf(t)
	}

	since := int64(0)
	if !t.Since.IsZero() {
		since = t.Since.UnixMilli()
	}
	n.Incarnation, d.incarnation = int64(t.Incarnation)-d.incarnation, int64(t.Incarnation)
	n.Since, d.since = since-d.since, since

	if t.LastExit != nil {
		if n.Exit = t.LastExit.String(); len(n.Exit) > longestExit {
			n.Exit = strings.ToValidUTF8(n.Exit[:longestExit], "") + "…"
		}
	}
	for _, c := range t.Children {
		n.Children = append(n.Children, d.node(c))
	}
	return n
}

// deltas streams the tree as server-sent events: the whole tree, then what changes.
func (h *Handler) deltas(w http.ResponseWriter, r *http.Request) {
	defer h.open.Add(-1)
	if h.open.Add(1) > int64(h.options.Watches) {
		http.Error(w, fmt.Sprintf("%d pages follow the tree already", h.options.Watches), http.StatusServiceUnavailable)
		return
	}
	watch, err := h.root.Watch()
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer watch.Close()

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	s := sender{w: w, to: w, control: http.NewResponseController(w)}
	if packs(r) {
		w.Header().Set("Content-Encoding", "gzip")
		s.zip = gzip.NewWriter(w)
		s.to = s.zip
	}

	first := watch.Snapshot()
	err = s.send(message{Seq: first.Seq, Tree: nodeOf(first.Tree), Orphans: first.Orphans})
	for err == nil {
		if err = rest(r.Context()); err != nil {
			return
		}
		err = s.next(r.Context(), watch)
	}
}

// next sends what has changed, or a sign of life.
func (s *sender) next(ctx context.Context, watch *supervisor.Watch) error {
	wait, cancel := context.WithTimeout(ctx, alive)
	d, err := watch.Next(wait)
	cancel()

	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && wait.Err() != nil:
		return s.write([]byte(": alive\n\n"))
	case err != nil:
		return err
	}

	m := message{Seq: d.Seq, Events: d.Lost + uint64(len(d.Events)), Orphans: d.Orphans}
	for _, c := range d.Changes {
		x := change{Path: c.Path, Whole: c.Whole}
		if !c.Gone {
			x.Node = nodeOf(c.Tree)
		}
		m.Changes = append(m.Changes, x)
	}
	for _, e := range slices.Backward(d.Events) { // a storm has thousands, and the page shows ten
		if len(m.Failures) == mostFailures {
			break
		}
		if failure(e) {
			m.Failures = append(m.Failures, e.String())
		}
	}
	slices.Reverse(m.Failures)

	return s.send(m)
}

func failure(e supervisor.Event) bool {
	switch e := e.(type) {
	case supervisor.ChildExited:
		return e.Exit.Class == supervisor.Abnormal
	case supervisor.GaveUp, supervisor.ChildOrphaned, supervisor.ChildStartFailed:
		return true
	}
	return false
}

// sender writes server-sent events.
type sender struct {
	w       http.ResponseWriter
	to      io.Writer
	zip     *gzip.Writer
	control *http.ResponseController
}

func (s *sender) send(m message) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return s.write(append(append([]byte("data: "), data...), "\n\n"...))
}

func (s *sender) write(b []byte) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(stalled)) // only a test's recorder has no deadlines
	if _, err := s.to.Write(b); err != nil {
		return err
	}
	if s.zip != nil {
		if err := s.zip.Flush(); err != nil {
			return err
		}
	}
	return s.control.Flush()
}

// rest waits, so that a page gets at most ten messages a second.
func rest(ctx context.Context) error {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
