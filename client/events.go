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

// Event is one event of a node. At most one of Record, Tree and Dropped is set; with none it is a
// cursor alone.
type Event struct {
	// Cursor is the index of the last record of the log that has been seen, or was filtered out; of
	// a record it is its own. To come back here, follow with EventsOptions.After. Nil as long as
	// the log could not be asked where FromNow is.
	Cursor *uint64

	Record  *Record          // a record of the event log
	Tree    *apiv1.TreeEvent // something that happened in the supervision tree
	Dropped uint64           // so many events of the tree are missing here: this client is too slow
}

// Type says which it is: "record", "tree", "dropped" or "cursor".
func (e Event) Type() string {
	switch {
	case e.Record != nil:
		return "record"
	case e.Tree != nil:
		return "tree"
	case e.Dropped > 0:
		return "dropped"
	}
	return "cursor"
}

// MarshalJSON writes the event as "coppice events --json" and the node's /events do.
func (e Event) MarshalJSON() ([]byte, error) {
	j := eventJSON{Cursor: e.Cursor, Type: e.Type(), Dropped: e.Dropped}
	if r := e.Record; r != nil {
		record, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(r.Message)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", r.Index, err)
		}
		j.Kind, j.Record = r.Kind, record
	}

	if t := e.Tree; t != nil {
		at := t.GetTime().AsTime()
		j.Kind, j.Seq, j.Time, j.Path, j.Incarnation, j.Reason, j.Text = t.Kind, t.Seq, &at, t.Path, t.Incarnation, t.
			Reason, t.Text
		if t.Class != apiv1.ExitClass_EXIT_CLASS_UNSPECIFIED {
			j.Class = strings.ToLower(strings.TrimPrefix(t.Class.String(), "EXIT_CLASS_"))
		}
		j.Attempt, j.InWindow, j.DelaySec = t.Attempt, t.InWindow, t.GetDelay().AsDuration().Seconds()
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
}

// EventOf reads an event from the wire. A record of a kind that this client does not know is an
// error.
func EventOf(m *apiv1.EventsResponse) (Event, error) {
	e := Event{Cursor: m.Cursor, Tree: m.GetTree(), Dropped: m.GetDropped().GetCount()}
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

	e.Record = &Record{Index: *m.Cursor, Kind: r.Kind, Message: msg}

	return e, nil
}

// EventsOptions say which events are wanted.
type EventsOptions struct {
	// After is the cursor: the index of the last record seen. 0 begins with the oldest that is
	// kept, FromNow behind the newest.
	After uint64

	// Filter is an expression of the node's filter language, "path=coppice/node,class=abnormal" for
	// one; empty is all.
	Filter string

	// Kinds are names of records and of tree events; none is all.
	Kinds []string

	// Once ends with the newest record there is when the call begins. There are no events of the
	// tree then.
	Once bool
}

// Events hands each event to handle: the records of the log, in order and each once, and the events
// of the tree as they come. It goes on while the node is down. When the connection breaks, or the
// process ends, it tries again until ctx ends, and goes on behind the last record seen; events of
// the tree that come in between are lost. It ends with handle's error, with ctx's cause, or with
// what trying again does not mend: a bad filter, or a cursor whose records are not kept any more.
//
// Events without any of their three are cursors; a client that stores them with what it made of the
// records can come back after its own end.
func (c *Client) Events(ctx context.Context, o EventsOptions, handle func(Event) error) error {
	b := c.backoff()
	req := &apiv1.EventsRequest{After: o.After, Filter: o.Filter, Kinds: o.Kinds, Once: o.Once}
	if o.After == FromNow {
		req.After, req.FromNow = 0, true
	}

	for {
		err := c.eventsOnce(ctx, req, func(e Event) error {
			b = c.backoff()
			if e.Cursor != nil {
				if e.Record != nil && !req.FromNow && e.Record.Index <= req.After {
					return fmt.Errorf("the node sent record %d again, after %d", e.Record.Index, req.After)
				}
				req.After, req.FromNow = *e.Cursor, false
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

// silence is after how long without a word from the node, which speaks every 15 s, a connection
// counts as broken.
const silence = time.Minute

func (c *Client) eventsOnce(ctx context.Context, req *apiv1.EventsRequest, handle func(Event) error) error {
	s, err := c.services()
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // where handle fails, the node need not send the rest

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
		silent.Stop() // handle may take its time
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
