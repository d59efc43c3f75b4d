package kafka

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coppice-go/coppice/engines/streams"
)

// The headers of our records.
const (
	headerEpoch      = "coppice-epoch"      // of the writer
	headerDefinition = "coppice-definition" // of an End: hash of the definition
	headerControl    = "coppice-control"    // of a control record: claim, place, chunk
	headerChunk      = "coppice-chunk"      // of a record of a bootstrap: number of its chunk
)

// control is the value of a control record.
type control struct {
	Epoch  uint64 `json:"epoch"`
	Holder string `json:"holder"`

	// Cursor is where the partition stands, if the End that tells it may be gone.
	Cursor *streams.Cursor `json:"cursor,omitempty"`
}

// stored is a record of a topic.
type stored struct {
	record  *kgo.Record
	epoch   uint64
	control *control
	event   streams.Event
	hash    string // definition, of an End
	chunk   int    // of a bootstrap, from 1; 0: it belongs to none
}

// errNotOurs means that a record was not written by this sink.
var errNotOurs = errors.New("the record is not of this sink")

// parse reads a record.
func parse(r *kgo.Record) (m stored, err error) {
	m.record = r
	wrong := func(err error) (stored, error) {
		return m, streams.Fail(streams.Misconfigured, fmt.Errorf("offset %d of partition %d: %w", r.Offset, r.Partition,
			err))
	}

	isControl := false
	err = errNotOurs
	for _, h := range r.Headers {
		switch h.Key {
		case headerEpoch:
			m.epoch, err = strconv.ParseUint(string(h.Value), 10, 64)
		case headerDefinition:
			m.hash = string(h.Value)
		case headerControl:
			isControl = true
		case headerChunk:
			m.chunk, _ = strconv.Atoi(string(h.Value)) // 0 if it is not ours
		}
	}
	if err != nil {
		return wrong(errNotOurs)
	}

	if isControl {
		m.control = &control{}
		if err := json.Unmarshal(r.Value, m.control); err != nil {
			return wrong(err)
		}
		return m, nil
	}

	if len(r.Value) > 0 && r.Value[0] == '{' {
		m.event, err = streams.ParseJSON(r.Value)
	} else {
		m.event, err = streams.ParseProto(r.Value)
	}
	if err != nil {
		return wrong(err)
	}

	return m, nil
}

// cursor returns the cursor that an End or a control record tells, and reports whether it does.
func (m stored) cursor() (streams.Cursor, bool) {
	if m.control != nil {
		if m.control.Cursor == nil {
			return streams.Cursor{}, false
		}
		return *m.control.Cursor, true
	}
	if _, ok := m.event.Body.(*streams.End); !ok {
		return streams.Cursor{}, false
	}
	return streams.Opening{Definition: m.hash, Epoch: m.epoch}.Cursor(m.event), true
}

// record returns the record of an event, whose memory it does not share.
func (s *sink) record(e streams.Event, partition int32) (*kgo.Record, error) {
	r := &kgo.Record{Topic: s.topic, Partition: partition, Headers: s.headers()}
	if key := e.Key(); key != nil {
		r.Key = bytes.Clone(key)
	}
	if _, ok := e.Body.(*streams.End); ok {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: headerDefinition, Value: []byte(s.opening.Definition)})
	}

	if s.keys.Format == "json" {
		r.Value = streams.AppendJSON(nil, e)
	} else {
		var err error
		if r.Value, err = streams.AppendProto(nil, e); err != nil {
			return nil, err
		}
	}

	if size := len(r.Key) + len(r.Value) + recordRoom; size > s.maxMessage {
		return nil, streams.Reject(e.Place, fmt.Errorf("its record has %d bytes, and the topic takes %d", size,
			s.maxMessage))
	}

	return r, nil
}

func (s *sink) headers() []kgo.RecordHeader {
	return []kgo.RecordHeader{{Key: headerEpoch, Value: strconv.AppendUint(nil, s.opening.Epoch, 10)}}
}

// controlRecord returns a control record for a partition.
func (s *sink) controlRecord(partition int32, what string, c *streams.Cursor) *kgo.Record {
	value, err := json.Marshal(control{Epoch: s.opening.Epoch, Holder: s.opening.Holder, Cursor: c})
	if err != nil {
		panic(err) // only our own types come here
	}
	return &kgo.Record{Topic: s.topic, Partition: partition, Value: value,
		Headers: append(s.headers(), kgo.RecordHeader{Key: headerControl, Value: []byte(what)})}
}

// partition returns the partition of an event: that of its key's prefix, else the first.
func (s *sink) partition(e streams.Event) int32 {
	key := e.Key()
	if key == nil || s.keys.Partitions == 1 {
		return 0
	}
	if i := bytes.Index(key, []byte(s.keys.Separator)); i >= 0 {
		key = key[:i]
	}
	h := fnv.New32a()
	h.Write(key)

	return int32(h.Sum32() % uint32(s.keys.Partitions))
}

// recordRoom is kept free for the headers of a record and of its batch.
const recordRoom = 1 << 10

// envelopeRoom is kept free for the envelope's other fields.
const envelopeRoom = 16 << 10

// limits returns what a topic with a limit of a message takes. In JSON a byte of a key or a value
// becomes up to six, and a key stands twice in a record.
func (s *sink) limits(maxMessage int) streams.Limits {
	room := max(maxMessage-recordRoom-envelopeRoom, 1024)
	if s.keys.Format == "json" {
		room /= 7
	}
	return streams.Limits{Key: room / 4, Payload: room / 2, Header: 4 << 10}
}
