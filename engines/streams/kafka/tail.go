package kafka

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coppice-go/coppice/engines/streams"
)

// place is what the end of a partition says.
type place struct {
	start, end int64 // offsets of the first record that is left, and behind the last committed one
	epoch      uint64
	cursor     streams.Cursor
	known      bool   // whether a record tells the cursor
	moved      string // the topic that has taken the place of this one; empty: none
}

// offsets returns the bounds of all partitions.
func (s *sink) offsets(ctx context.Context, client *kgo.Client) ([]place, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx, s.topic)
	if err != nil {
		return nil, classify(err)
	}
	ends, err := admin.ListCommittedOffsets(ctx, s.topic)
	if err != nil {
		return nil, classify(err)
	}

	places := make([]place, s.keys.Partitions)
	for p := range places {
		start, ok := starts.Lookup(s.topic, int32(p))
		end, also := ends.Lookup(s.topic, int32(p))
		if !ok || !also {
			return nil, s.wrong("has no partition %d", p)
		}
		if start.Err != nil || end.Err != nil {
			return nil, classify(firstOf(start.Err, end.Err))
		}
		places[p] = place{start: start.Offset, end: end.Offset}
	}

	return places, nil
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// tails reads back from the end of each partition to the record that tells where it stands.
func (s *sink) tails(ctx context.Context, client *kgo.Client) ([]place, error) {
	places, err := s.offsets(ctx, client)
	if err != nil {
		return nil, err
	}
	for p := range places {
		if err := s.readBack(ctx, client, int32(p), &places[p]); err != nil {
			return nil, err
		}
	}

	return places, nil
}

// readBack looks for the last record that tells the cursor, in steps that grow.
func (s *sink) readBack(ctx context.Context, client *kgo.Client, partition int32, at *place) error {
	for step := int64(16); ; step *= 8 {
		from := max(at.start, at.end-step)
		if from >= at.end {
			return nil
		}

		err := s.consume(ctx, client, partition, from, at.end, func(m stored) error {
			at.epoch = max(at.epoch, m.epoch)
			if to, ok := m.event.Body.(*streams.Moved); ok {
				at.moved = to.To
			}
			if c, ok := m.cursor(); ok {
				at.cursor, at.known = c, true
			}
			return nil
		})
		if err != nil || at.known || from == at.start {
			return err
		}
	}
}

// saved is Cursor.Native: the ends of the partitions, and where the sink stood then. If the tail of
// a partition is removed and nothing was written since, it is where the sink goes on.
type saved struct {
	Topic  string         `json:"topic,omitempty"` // of a generation; empty: that of the definition
	Ends   []int64        `json:"ends"`
	Cursor streams.Cursor `json:"cursor"`
}

func (s *sink) native(places []place, c streams.Cursor) string {
	c.Native, c.Beat = "", 0
	n := saved{Cursor: c}
	if s.topic != s.keys.Topic {
		n.Topic = s.topic
	}
	for _, p := range places {
		n.Ends = append(n.Ends, p.end)
	}
	b, err := json.Marshal(n)
	if err != nil {
		panic(err) // only our own types come here
	}
	return string(b)
}

// known returns the position that the slot has saved.
func (s *sink) known() (n saved) {
	_ = json.Unmarshal([]byte(s.opening.Native), &n) // an empty one is zero
	return n
}

// movedTo returns the topic that has taken the place of this one, by what any partition says: the
// commit reaches them one after another, and is decided before the first. If the tail of the first
// partition is gone, it is what the slot has saved.
func (s *sink) movedTo(places []place) string {
	for _, at := range places {
		if at.moved != "" {
			return at.moved
		}
	}
	if first := places[0]; !first.known && first.start > 0 && s.topic == s.keys.Topic {
		return s.known().Topic
	}
	return ""
}

// settle gives each partition whose tail is gone the cursor that the slot has saved, if nothing was
// written to it since. end returns the end that the partition had before the claim.
func (s *sink) settle(places []place, end func(partition int) int64) error {
	n := s.known()
	if cmp.Or(n.Topic, s.keys.Topic) != s.topic {
		n.Ends = nil // they are of another generation
	}

	for p := range places {
		if places[p].known || places[p].start == 0 {
			continue
		}
		if p >= len(n.Ends) || n.Ends[p] != end(p) {
			return s.wrong("has lost the tail of partition %d (retention or removal): its first record is %d and its "+
				"end %d, and this node has last seen the ends %v: rebuild the sink", p, places[p].start, end(p), n.Ends)
		}
		places[p].cursor, places[p].known = n.Cursor, true
	}

	return nil
}

// lowest returns the cursor of the partition that is furthest behind.
func lowest(places []place) (c streams.Cursor) {
	for p, at := range places {
		if at.cursor.Empty() {
			return streams.Cursor{}
		}
		if p == 0 || at.cursor.Position.Compare(c.Position) < 0 {
			c = at.cursor
		}
	}
	return c
}

// newest returns the highest epoch of the partitions.
func newest(places []place) (epoch uint64) {
	for _, at := range places {
		epoch = max(epoch, at.epoch)
	}
	return epoch
}

// ends are the offsets of the newest records that the partitions have taken.
type ends map[partition]int64

type partition struct {
	topic  string
	number int32
}

// take notes that a partition has taken a record. Offsets only grow: if one does not, the topic was
// put back to an older copy or made again, and the record does not follow what the writer takes
// for the end of the partition. The broker itself need not refuse such a record.
func (e ends) take(r *kgo.Record) error {
	at := partition{r.Topic, r.Partition}
	newest, ok := e[at]
	if ok && r.Offset <= newest {
		return fmt.Errorf("partition %d has put a record at offset %d after one at %d: the topic was put back",
			r.Partition, r.Offset, newest)
	}
	e[at] = r.Offset
	return nil
}
