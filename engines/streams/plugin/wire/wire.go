// Package wire converts between the types of streams and the messages that a node and a sink in a
// process of its own exchange. Both ends share it.
package wire

import (
	"errors"

	"github.com/hashicorp/go-plugin"

	"github.com/coppice-go/coppice/engines/streams"
	pluginv1 "github.com/coppice-go/coppice/proto/coppice/plugin/v1"
)

// Protocol is the version of the protocol.
const Protocol = 1

// Name is the name under which go-plugin knows the sink.
const Name = "sink"

// MaxMessage is the longest message that either end takes, in bytes: a value before a change is
// not split.
const MaxMessage = 2*streams.MaxPayload + 1<<20

// MaxPayload is the longest payload of an event, in bytes. A longer one comes in parts.
const MaxPayload = 1 << 20

// Handshake is what both ends must agree on before they speak. The cookie keeps a person who starts
// a plugin by hand from waiting for an answer; it is no secret.
var Handshake = plugin.HandshakeConfig{
	ProtocolVersion: Protocol, MagicCookieKey: "COPPICE_SINK_PLUGIN", MagicCookieValue: "a coppice node starts this",
}

// Failure returns the message of an error, or nil.
func Failure(err error) *pluginv1.Failure {
	if err == nil {
		return nil
	}
	m := &pluginv1.Failure{Class: string(streams.ClassOf(err)), Text: err.Error()}
	var f *streams.Failure
	if errors.As(err, &f) && f.Class == streams.RejectedEvent {
		m.Text, m.Chain, m.Period = f.Err.Error(), f.Place.ChainID, f.Place.Period
		m.Height, m.Index = f.Place.Height, f.Place.Index
	}

	return m
}

// Err returns the error of a message, or nil.
func Err(m *pluginv1.Failure) error {
	switch {
	case m == nil:
		return nil
	case m.Class == string(streams.RejectedEvent):
		return streams.Reject(streams.Place{ChainID: m.Chain, Index: m.Index,
			Position: streams.Position{Period: m.Period, Height: m.Height}}, errors.New(m.Text))
	}
	return streams.Fail(streams.Class(m.Class), errors.New(m.Text))
}

// FromPosition returns the message of a position, or nil.
func FromPosition(p *streams.Position) *pluginv1.Position {
	if p == nil {
		return nil
	}
	return &pluginv1.Position{Period: p.Period, Height: p.Height}
}

// Position returns the position of a message, or nil.
func Position(m *pluginv1.Position) *streams.Position {
	if m == nil {
		return nil
	}
	return &streams.Position{Period: m.Period, Height: m.Height}
}

// FromCursor returns the message of a cursor.
func FromCursor(c streams.Cursor) *pluginv1.Cursor {
	return &pluginv1.Cursor{Chain: c.ChainID, Period: c.Period, Height: c.Height, Events: c.Events,
		BlockHash: c.BlockHash, AppHash: c.AppHash, Digest: c.Digest, Definition: c.Definition, Epoch: c.Epoch,
		Beat: c.Beat, Native: c.Native}
}

// Cursor returns the cursor of a message.
func Cursor(m *pluginv1.Cursor) streams.Cursor {
	if m == nil {
		return streams.Cursor{}
	}
	return streams.Cursor{ChainID: m.Chain, Position: streams.Position{Period: m.Period, Height: m.Height},
		Events: m.Events, BlockHash: m.BlockHash, AppHash: m.AppHash, Digest: m.Digest, Definition: m.Definition,
		Epoch: m.Epoch, Beat: m.Beat, Native: m.Native}
}

// FromLimits returns the message of limits.
func FromLimits(l streams.Limits) *pluginv1.Limits {
	return &pluginv1.Limits{Key: int64(l.Key), Payload: int64(l.Payload), Header: int64(l.Header)}
}

// Limits returns the limits of a message.
func Limits(m *pluginv1.Limits) streams.Limits {
	return streams.Limits{Key: int(m.GetKey()), Payload: int(m.GetPayload()), Header: int(m.GetHeader())}
}

// FromEvent returns the item that carries an event.
func FromEvent(e streams.Event) (*pluginv1.Item, error) {
	b, err := streams.AppendProto(nil, e)
	if err != nil {
		return nil, err
	}
	m := &pluginv1.Item{Event: b}
	if end, ok := e.Body.(*streams.End); ok {
		m.After = FromPosition(end.After)
	}

	return m, nil
}

// Event returns the event of an item.
func Event(m *pluginv1.Item) (streams.Event, error) {
	e, err := streams.ParseProto(m.Event)
	if err != nil {
		return e, err
	}
	if end, ok := e.Body.(*streams.End); ok {
		end.After = Position(m.After)
	}

	return e, nil
}
