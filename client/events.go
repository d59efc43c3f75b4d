package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// Event is one event of a node. At most one of Record, Tree, Ready and Dropped is set. If none is
// set, the event is only a cursor.
type Event struct {
	// Cursor is a position in the log: the stream has delivered every matching record up to and
	// including this index. If Record is set, Cursor is that record's index. To continue after this
	// event, pass Cursor as EventsOptions.After. Cursor is nil if the stream began at FromNow and
	// the node has not yet been able to ask the log for its newest record.
	Cursor *uint64

	// History is the history of the record at Cursor. Store both, and pass both: see Cursor (the
	// type).
	History string

	Record  *Record                 // a record of the event log
	Tree    *apiv1.TreeEvent        // an event of the supervision tree
	Ready   *apiv1.Readiness        // the node's readiness has changed
	Process *apiv1.ConsensusProcess // the process of the consensus was started, reset, …
	Dropped uint64                  // number of tree events missing here, because this client is too slow
}

// Type returns the type of the event: "record", "tree", "readiness", "process", "dropped"
// or "cursor".
func (e Event) Type() string {
	switch {
	case e.Record != nil:
		return "record"
	case e.Tree != nil:
		return "tree"
	case e.Ready != nil:
		return "readiness"
	case e.Process != nil:
		return "process"
	case e.Dropped > 0:
		return "dropped"
	}
	return "cursor"
}

// MarshalJSON writes the event in the form of "coppice events --json" and of the node's /events.
func (e Event) MarshalJSON() ([]byte, error) {
	j := eventJSON{Cursor: e.Cursor, History: e.History, Type: e.Type(), Dropped: e.Dropped}
	if r := e.Record; r != nil {
		record, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(r.Message)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", r.Index, err)
		}
		j.Kind, j.Record = r.Kind, record
	}

	if t := e.Tree; t != nil {
		at := t.GetTime().AsTime()
		j.Kind, j.Seq, j.Time, j.Path, j.Incarnation = t.Kind, t.Seq, &at, t.Path, t.Incarnation
		j.Reason, j.Text = t.Reason, t.Text
		if t.Class != apiv1.ExitClass_EXIT_CLASS_UNSPECIFIED {
			j.Class = strings.ToLower(strings.TrimPrefix(t.Class.String(), "EXIT_CLASS_"))
		}
		j.Attempt, j.InWindow, j.DelaySec = t.Attempt, t.InWindow, t.GetDelay().AsDuration().Seconds()
	}

	if r := e.Ready; r != nil {
		at, ready := r.GetSince().AsTime(), r.State == "ready"
		j.Kind, j.Time, j.State, j.Ready, j.Reason = "ReadinessChanged", &at, r.State, &ready, r.Reason
	}

	if p := e.Process; p != nil {
		at := p.GetAt().AsTime()
		j.Kind, j.Time, j.State, j.Text = "ProcessChanged", &at, p.State, p.Text
	}

	return json.Marshal(j)
}

type eventJSON struct {
	Cursor      *uint64         `json:"cursor,omitempty"`
	Type        string          `json:"type"`
	Kind        string          `json:"kind,omitempty"`
	Record      json.RawMessage `json:"record,omitempty"`
	Seq         uint64          `json:"seq,omitempty"`
	Time        *time.Time      `json:"time,omitempty"`
	Path        string          `json:"path,omitempty"`
	Incarnation uint64          `json:"incarnation,omitempty"`
	Class       string          `json:"class,omitempty"`
	Reason      string          `json:"reason,omitempty"`
	Attempt     uint32          `json:"attempt,omitempty"`
	InWindow    uint32          `json:"in_window,omitempty"`
	DelaySec    float64         `json:"delay_seconds,omitempty"`
	Text        string          `json:"text,omitempty"`
	Dropped     uint64          `json:"dropped,omitempty"`
	State       string          `json:"state,omitempty"`
	Ready       *bool           `json:"ready,omitempty"`
	History     string          `json:"history,omitempty"`
}

// EventOf converts an event from its wire form. It returns an error for a record of an unknown
// kind.
func EventOf(m *apiv1.EventsResponse) (Event, error) {
	e := Event{Cursor: m.Cursor, History: m.History, Tree: m.GetTree(), Ready: m.GetReadiness(),
		Process: m.GetProcess(),
		Dropped: m.GetDropped().GetCount()}
	r := m.GetRecord()
	if r == nil {
		return e, nil
	}
	if m.Cursor == nil {
		return e, errors.New("the node sent a record without its index")
	}
	kind, ok := chain.KindOf(r.Kind)
	if !ok {
		return e, fmt.Errorf("record %d: this client does not know %q", *m.Cursor, r.Kind)
	}
	msg, err := chain.DecodeRecord(eventlog.Entry{Index: *m.Cursor, Kind: kind, Data: r.Record})
	if err != nil {
		return e, err
	}

	e.Record = &Record{Index: *m.Cursor, History: m.History, Kind: r.Kind, Message: msg}

	return e, nil
}

// EventsOptions select events.
type EventsOptions struct {
	// After is a cursor: the stream begins after the record with this index. 0 means to begin with
	// the oldest record that is kept, and FromNow to begin after the newest.
	After uint64

	// History is the history of the cursor After, as the event with that cursor had it. Empty
	// means that the cursor is taken for one of the node's log.
	History string

	// Filter is an expression of the node's filter language, for example
	// "path=coppice/node,class=abnormal". Empty means all events.
	Filter string

	// Kinds are names of records and of tree events. Empty means all.
	Kinds []string

	// Once ends the stream after the record that is the newest when the call begins. The stream
	// then has no events of the tree.
	Once bool
}

// Events passes each event to handle: the records of the log, in order and each once, and the
// events of the tree as they happen. It continues while the node is down. If the connection breaks
// or the process ends, it tries again until ctx ends, and continues after the last record that
// handle received; events of the tree in between are lost. It returns handle's error, ctx's cause,
// or an error that another attempt cannot mend: an invalid filter, a cursor whose records are no
// longer kept, or one of another history (see Cursor).
//
// An event with none of Record, Tree, Ready and Dropped is a cursor. A client that stores the
// cursor together with its results can continue there after a restart.
func (c *Client) Events(ctx context.Context, o EventsOptions, handle func(Event) error) error {
	b := c.backoff()
	req := &apiv1.EventsRequest{After: o.After, History: o.History, Filter: o.Filter, Kinds: o.Kinds, Once: o.Once}
	if o.After == FromNow {
		req.After, req.History, req.FromNow = 0, "", true
	}

	for {
		err := c.eventsOnce(ctx, req, func(e Event) error {
			b = c.backoff()
			if e.Cursor != nil {
				if e.Record != nil && !req.FromNow && e.Record.Index <= req.After {
					return fmt.Errorf("the node sent record %d again, after %d", e.Record.Index, req.After)
				}
				req.After, req.History, req.FromNow = *e.Cursor, e.History, false
			}
			return handle(e)
		})

		if ctx.Err() != nil {
			return context.Cause(ctx)
		}

		var own handled
		switch {
		case errors.As(err, &own):
			return own.error
		case err == nil && o.Once:
			return nil
		case err != nil && !lost(ctx, err):
			return err
		}

		if ended := b.pause(ctx); ended != nil {
			return ended
		}
	}
}

// silence is the time after which a connection without any message counts as broken. The node sends
// a message every 15 s.
const silence = time.Minute

func (c *Client) eventsOnce(ctx context.Context, req *apiv1.EventsRequest, handle func(Event) error) error {
	s, err := c.services()
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // if handle fails, the node need not send the rest

	silent := time.AfterFunc(silence, cancel)
	defer silent.Stop()

	r := connect.NewRequest(req)
	c.sign(r.Header())
	stream, err := s.admin.Events(ctx, r)
	if err != nil {
		return err
	}
	defer stream.Close()

	for stream.Receive() {
		silent.Stop() // the time that handle takes does not count
		e, err := EventOf(stream.Msg())
		if err == nil {
			err = handle(e)
		}
		if err != nil {
			return handled{err}
		}

		silent.Reset(silence)
	}

	return stream.Err()
}
