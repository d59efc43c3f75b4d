package postgres

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/coppice-go/coppice/engines/streams"
)

// row is the columns of an event beside its place and kind. nil is NULL.
type row struct {
	tx    uint32
	hasTx bool

	key     []byte
	value   []byte // the payload; of a change, NULL is a deletion
	decoded []byte // jsonb
	body    []byte // jsonb: the fields that have no column, with the names of the envelope's JSON
}

// newRow returns the row of an event, which shares its memory.
func newRow(e streams.Event) (r row) {
	r.tx, r.hasTx = e.TxNumber()
	r.key = e.Key()

	switch b := e.Body.(type) {
	case *streams.Change:
		if !b.Delete {
			r.value = orEmpty(b.Value)
		}
		r.decoded = b.Decoded
		if b.Before.State != "" || !e.Part.Whole() {
			bare := *b
			bare.Key, bare.Value, bare.Decoded = nil, nil, nil
			e.Body = &bare
			r.body = fields(e)
		}

	case *streams.Key:
		r.value, r.decoded = orEmpty(b.Value), b.Decoded
		if !e.Part.Whole() {
			e.Body = &streams.Key{}
			r.body = fields(e)
		}

	case *streams.Tx:
		if b.HasBody {
			r.value = orEmpty(b.Body)
		}
		bare := *b
		bare.Body, bare.HasBody = nil, false
		e.Body = &bare
		r.body = fields(e)

	case *streams.Outcome:
		r.value = b.Data
		bare := *b
		bare.Data = nil
		e.Body = &bare
		r.body = fields(e)

	default:
		r.body = fields(e)
	}

	return r
}

// fields returns the envelope's JSON of an event without the fields of its place. A text with NUL
// is no jsonb: such an event stands there as protobuf, in base64.
func fields(e streams.Event) []byte {
	text := streams.AppendJSON(nil, e)
	if bytes.Contains(text, []byte(`\u0000`)) {
		if b, err := streams.AppendProto(nil, e); err == nil {
			return append(base64.StdEncoding.AppendEncode([]byte(`{"protobuf":"`), b), `"}`...)
		}
	}

	kind := []byte(`,"kind":"` + string(e.Body.Kind()) + `"`)
	rest := bytes.TrimPrefix(text[bytes.Index(text, kind)+len(kind):], []byte(","))

	return append([]byte("{"), rest...)
}

// event returns the event of a row at a place.
func (r row) event(at streams.Place, part uint32, kind string) (streams.Event, error) {
	e := streams.Event{Place: at}
	wrong := func(err error) (streams.Event, error) {
		return streams.Event{}, streams.Fail(streams.Misconfigured, fmt.Errorf("row of %s: %w", at, err))
	}

	switch kind := streams.Kind(kind); {
	case kind == streams.KindChange && r.body == nil:
		e.Body = &streams.Change{Tx: r.tx, Key: r.key}
	case kind == streams.KindKey && r.body == nil:
		e.Body = &streams.Key{Key: r.key}
	default:
		var err error
		if e, err = r.parse(at, kind); err != nil {
			return wrong(err)
		}
	}
	if e.Part.Number != part {
		return wrong(fmt.Errorf("column part is %d, body has part %d", part, e.Part.Number))
	}

	switch b := e.Body.(type) {
	case *streams.Change:
		b.Key, b.Value, b.Delete, b.Decoded = r.key, r.value, r.value == nil, r.decoded
	case *streams.Key:
		b.Key, b.Value, b.Decoded = r.key, r.value, r.decoded
	case *streams.Tx:
		b.Body, b.HasBody = r.value, r.value != nil
	case *streams.Outcome:
		b.Data = r.value
	}

	return e, nil
}

// parse returns the event of the column body.
func (r row) parse(at streams.Place, kind streams.Kind) (streams.Event, error) {
	var other struct {
		Protobuf []byte `json:"protobuf"`
	}
	if err := json.Unmarshal(r.body, &other); err != nil {
		return streams.Event{}, err
	}
	if other.Protobuf != nil {
		e, err := streams.ParseProto(other.Protobuf)
		e.Place = at
		return e, err
	}

	text := fmt.Appendf(nil, `{"v":%d,"chain":"","period":0,"height":0,"index":0,"kind":%q`, streams.Version, kind)
	rest := bytes.TrimLeft(r.body, "{ ")
	if len(rest) > 1 {
		text = append(text, ',')
	}
	e, err := streams.ParseJSON(append(text, rest...))
	e.Place = at

	return e, err
}
