package nats

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/coppice-go/coppice/engines/streams"
)

// tail is what the end of a stream says.
type tail struct {
	last    uint64 // sequence of the last message, also of one that was removed
	epoch   uint64
	cursor  streams.Cursor
	partial *partial
	moved   string // the stream that has taken the place of this one; empty: none
}

// tail reads the end of the stream.
func (s *sink) tail(ctx context.Context, conn *connection, stream jetstream.Stream) (t tail, err error) {
	info, err := stream.Info(ctx)
	if err != nil {
		return t, classify(err)
	}
	t.last = info.State.LastSeq
	if t.last == 0 {
		return t, nil
	}

	name := info.Config.Name
	m, err := s.get(ctx, conn, name, t.last)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return s.lostTail(name, t)
	} else if err != nil {
		return t, err
	}
	t.epoch = m.epoch

	switch to, moved := m.event.Body.(*streams.Moved); {
	case moved:
		t.moved = to.To
		return t, nil
	case m.control != nil:
		t.cursor, t.partial = m.control.Cursor, m.control.Partial
		return t, nil
	case m.isEnd():
		t.cursor = m.cursor()
		return t, nil
	}

	// The stream ends inside a unit: its base tells the cursor.
	base, err := s.get(ctx, conn, name, m.base)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return t, streams.Fail(streams.Misconfigured, fmt.Errorf("sequence %d of stream %s is gone (purge or "+
			"retention), which told where the unfinished %s began: rebuild the sink", m.base, name, m.event.Place))
	} else if err != nil {
		return t, err
	}

	t.cursor = base.cursor()
	t.partial = &partial{Position: m.event.Position, Index: m.event.Index, Part: m.event.Part.Number,
		Parts: m.event.Part.Of, From: m.base + 1, Definition: base.hash}
	if base.control != nil && base.control.Partial != nil {
		t.partial.From = base.control.Partial.From
	}

	return t, nil
}

// lostTail returns the cursor that the slot has saved, if nothing was written since.
func (s *sink) lostTail(name string, t tail) (tail, error) {
	n := s.known()
	switch at := cmp.Or(n.Stream, s.keys.Stream); {
	case at != name && name == s.keys.Stream:
		t.moved = at
		return t, nil
	case at == name && n.Seq == t.last:
		t.cursor, t.epoch = n.Cursor, n.Cursor.Epoch
		return t, nil
	}

	return t, streams.Fail(streams.Misconfigured, fmt.Errorf("the last message of stream %s, sequence %d, is gone "+
		"(purge or retention), and this node has last seen sequence %d: rebuild the sink", name, t.last, n.Seq))
}

// requestTime bounds a request to the server.
const requestTime = 10 * time.Second

// get reads a message from the leader of the stream, which has the newest ones. The error is
// ErrMsgNotFound if it is not there any more.
func (s *sink) get(ctx context.Context, conn *connection, stream string, seq uint64) (stored, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()

	answer, err := conn.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream,
		fmt.Appendf(nil, `{"seq":%d}`, seq))
	if err != nil {
		return stored{}, classify(err)
	}

	var r struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Header []byte `json:"hdrs"`
			Data   []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &r); err != nil {
		return stored{}, streams.Fail(streams.Unreachable, err)
	}
	if r.Error != nil && r.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
		return stored{}, jetstream.ErrMsgNotFound
	} else if r.Error != nil {
		return stored{}, classify(r.Error)
	}

	var header nats.Header
	if len(r.Message.Header) > 0 {
		if header, err = nats.DecodeHeadersMsg(r.Message.Header); err != nil {
			return stored{}, streams.Fail(streams.Misconfigured, err)
		}
	}

	return parse(seq, header, r.Message.Data)
}
