package client

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// Record is a record of the node's event log.
type Record struct {
	Index   uint64
	History string // in which it was written: see Cursor
	Kind    string
	Message proto.Message // the message of package logv1 that Kind names
}

// FromNow, used as a cursor, means to begin after the newest record.
const FromNow = ^uint64(0)

// Follow calls handle with each record whose index is above after, in order and once, as the
// records become durable. If kinds is not empty, it leaves out records of other kinds. If the node
// goes away, Follow tries again until ctx ends, and continues where it was. It returns handle's
// error, ctx's cause, or an error that another attempt cannot mend.
func (c *Client) Follow(ctx context.Context, after uint64, kinds []string, handle func(Record) error) error {
	return c.FollowFrom(ctx, Cursor{Index: after}, kinds, handle)
}

// FollowFrom does the same as Follow, from a cursor with its history. If the node's log was
// restored or replaced since and has another record there, the error says so.
func (c *Client) FollowFrom(ctx context.Context, cursor Cursor, kinds []string, handle func(Record) error) error {
	b := c.backoff()
	fromNow := cursor.Index == FromNow

	for {
		err := c.followOnce(ctx, cursor, fromNow, kinds, func(m *apiv1.FollowResponse) error {
			b = c.backoff()
			cursor, fromNow = Cursor{m.History, m.Index}, false
			if m.Kind == "" {
				return nil
			}
			kind, ok := chain.KindOf(m.Kind)
			if !ok {
				return fmt.Errorf("record %d: this client does not know %q", m.Index, m.Kind)
			}
			msg, err := chain.DecodeRecord(eventlog.Entry{Index: m.Index, Kind: kind, Data: m.Record})
			if err != nil {
				return err
			}

			return handle(Record{Index: m.Index, History: m.History, Kind: m.Kind, Message: msg})
		})

		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var own handled
		if errors.As(err, &own) {
			return own.error
		}
		if err != nil && !lost(ctx, err) {
			return err
		}
		if ended := b.pause(ctx); ended != nil {
			return ended
		}
	}
}

// handled wraps an error that handle returned, so that Follow and Events do not try again.
type handled struct{ error }

func (c *Client) followOnce(ctx context.Context, after Cursor, fromNow bool, kinds []string,
	handle func(*apiv1.FollowResponse) error) error {
	s, err := c.services()
	if err != nil {
		return err
	}

	req := &apiv1.FollowRequest{After: after.Index, History: after.History, Kinds: kinds}
	if fromNow {
		req.After, req.History, req.FromNow = 0, "", true
	}

	r := connect.NewRequest(req)
	c.sign(r.Header())
	stream, err := s.node.Follow(ctx, r)
	if err != nil {
		return err
	}
	defer stream.Close()

	for stream.Receive() {
		if err := handle(stream.Msg()); err != nil {
			return handled{err}
		}
	}

	return stream.Err()
}
