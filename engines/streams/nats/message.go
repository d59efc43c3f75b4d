package nats

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/coppice-go/coppice/engines/streams"
)

// The headers of our messages.
const (
	headerEpoch      = "Coppice-Epoch"      // of the writer
	headerBase       = "Coppice-Base"       // sequence of the message that tells the cursor before this one
	headerDefinition = "Coppice-Definition" // of an End: hash of the definition
)

// controlKind ends the subject of control messages.
const controlKind = "control"

// control is the body of a control message: a claim, or a declaration that messages are void.
type control struct {
	Epoch      uint64         `json:"epoch"`
	Holder     string         `json:"holder"`
	Definition string         `json:"definition"`        // of the writer
	Cursor     streams.Cursor `json:"cursor"`            // where the stream stands
	Partial    *partial       `json:"partial,omitempty"` // what of a unit follows the cursor
	Void       uint64         `json:"void,omitempty"`    // events from this sequence up to here do not count

	// Chunk is a chunk of a bootstrap, from 1, of which the events from From up to here are all.
	Chunk int    `json:"chunk,omitempty"`
	From  uint64 `json:"from,omitempty"`
}

// partial is the beginning of a unit whose rest is not written.
type partial struct {
	streams.Position
	Index      uint64 `json:"index"`          // of its last event
	Part       uint32 `json:"part,omitempty"` // of that event
	Parts      uint32 `json:"parts,omitempty"`
	From       uint64 `json:"from"` // sequence of its first event
	Definition string `json:"definition"`
}

// has reports whether the partial unit contains an event.
func (p *partial) has(e streams.Event) bool {
	return e.Index < p.Index || e.Index == p.Index && e.Part.Number <= p.Part
}

// stored is a message of a stream.
type stored struct {
	seq     uint64
	epoch   uint64
	base    uint64
	control *control
	event   streams.Event
	hash    string // definition, of an End or a control message
}

// errNotOurs means that a message was not written by this sink.
var errNotOurs = errors.New("the message is not of this sink")

// parse reads a message.
func parse(seq uint64, header nats.Header, body []byte) (m stored, err error) {
	m.seq = seq
	wrong := func(err error) (stored, error) {
		return m, streams.Fail(streams.Misconfigured, fmt.Errorf("sequence %d of the stream: %w", seq, err))
	}

	if m.epoch, err = strconv.ParseUint(header.Get(headerEpoch), 10, 64); err != nil {
		return wrong(errNotOurs)
	}
	if m.base, err = strconv.ParseUint(header.Get(headerBase), 10, 64); err != nil {
		return wrong(errNotOurs)
	}

	m.hash = header.Get(headerDefinition)
	if m.hash == controlKind {
		m.control = &control{}
		if err := json.Unmarshal(body, m.control); err != nil {
			return wrong(err)
		}
		m.hash = m.control.Definition
		return m, nil
	}

	if len(body) > 0 && body[0] == '{' {
		m.event, err = streams.ParseJSON(body)
	} else {
		m.event, err = streams.ParseProto(body)
	}
	if err != nil {
		return wrong(err)
	}

	return m, nil
}

// isEnd reports whether the message is the End of a unit.
func (m stored) isEnd() bool {
	if m.control != nil {
		return false
	}
	_, ok := m.event.Body.(*streams.End)
	return ok
}

// cursor returns the cursor that a control message or an End tells.
func (m stored) cursor() streams.Cursor {
	if m.control != nil {
		return m.control.Cursor
	}
	return streams.Opening{Definition: m.hash, Epoch: m.epoch}.Cursor(m.event)
}

// message returns the message of an event, whose memory it does not share.
func (s *sink) message(e streams.Event) (*nats.Msg, error) {
	m := nats.NewMsg(s.subject + "." + string(e.Body.Kind()))
	m.Header.Set(headerEpoch, strconv.FormatUint(s.opening.Epoch, 10))
	m.Header.Set(headerBase, strconv.FormatUint(s.base, 10))
	if _, ok := e.Body.(*streams.End); ok {
		m.Header.Set(headerDefinition, s.opening.Definition)
	}

	if s.keys.Format == "json" {
		m.Data = streams.AppendJSON(nil, e)
	} else {
		var err error
		if m.Data, err = streams.AppendProto(nil, e); err != nil {
			return nil, err
		}
	}

	if limit := int(s.conn.nc.MaxPayload()) - headerRoom; len(m.Data) > limit {
		return nil, streams.Reject(e.Place, fmt.Errorf("its message has %d bytes, and the server takes %d",
			len(m.Data), limit))
	}

	return m, nil
}

// controlMessage returns the message of c, in the name of the writer.
func (s *sink) controlMessage(c control) *nats.Msg {
	c.Epoch, c.Holder, c.Definition = s.opening.Epoch, s.opening.Holder, s.opening.Definition
	body, err := json.Marshal(c)
	if err != nil {
		panic(err) // only our own types come here
	}
	m := nats.NewMsg(s.subject + "." + controlKind)
	m.Header.Set(headerEpoch, strconv.FormatUint(c.Epoch, 10))
	m.Header.Set(headerBase, "0")
	m.Header.Set(headerDefinition, controlKind)
	m.Data = body

	return m
}

// headerRoom is kept free in a message for its headers and for the envelope's other fields.
const headerRoom = 16 << 10

// limits returns what a server with a limit of a message takes. In JSON a byte of a key or a value
// becomes up to six.
func (s *sink) limits(maxPayload int64) streams.Limits {
	room := max(int(maxPayload)-2*headerRoom, 1024)
	if s.keys.Format == "json" {
		room /= 6
	}
	return streams.Limits{Key: room / 4, Payload: room * 3 / 4, Header: 4 << 10}
}
