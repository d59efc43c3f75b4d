package chain

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// The kinds of the event log's records. A number, once given, keeps its meaning.
const (
	KindChainStarted      eventlog.Kind = 1
	KindTxLaunched        eventlog.Kind = 2
	KindTxExpired         eventlog.Kind = 3
	KindOrderDecided      eventlog.Kind = 4
	KindBlockCommitted    eventlog.Kind = 5
	KindChainReset        eventlog.Kind = 6
	KindSnapshotInstalled eventlog.Kind = 7
	KindBase              eventlog.Kind = 8
)

// recordKind couples a kind with its name and its message: the one table behind NewRecord,
// DecodeRecord and KindName.
type recordKind struct {
	kind eventlog.Kind
	name string
	make func() proto.Message
}

var recordKinds = [...]recordKind{
	{KindChainStarted, "ChainStarted", func() proto.Message { return new(logv1.ChainStarted) }},
	{KindTxLaunched, "TxLaunched", func() proto.Message { return new(logv1.TxLaunched) }},
	{KindTxExpired, "TxExpired", func() proto.Message { return new(logv1.TxExpired) }},
	{KindOrderDecided, "OrderDecided", func() proto.Message { return new(logv1.OrderDecided) }},
	{KindBlockCommitted, "BlockCommitted", func() proto.Message { return new(logv1.BlockCommitted) }},
	{KindChainReset, "ChainReset", func() proto.Message { return new(logv1.ChainReset) }},
	{KindSnapshotInstalled, "SnapshotInstalled", func() proto.Message { return new(logv1.SnapshotInstalled) }},
	{KindBase, "Base", func() proto.Message { return new(logv1.Base) }},
}

// KindName returns the record's name, or for example "kind 9" for a kind that this version does not
// know.
func KindName(k eventlog.Kind) string {
	if i := int(k) - 1; i >= 0 && i < len(recordKinds) {
		return recordKinds[i].name
	}
	return fmt.Sprintf("kind %d", k)
}

// KindNames returns the names of all records.
func KindNames() []string {
	names := make([]string, len(recordKinds))
	for i, k := range recordKinds {
		names[i] = k.name
	}
	return names
}

// KindOf returns the kind of the record with this name.
func KindOf(name string) (eventlog.Kind, bool) {
	for _, k := range recordKinds {
		if k.name == name {
			return k.kind, true
		}
	}
	return 0, false
}

// NewRecord encodes one of package logv1's record messages.
func NewRecord(m proto.Message) (eventlog.Record, error) {
	var k eventlog.Kind
	switch m.(type) {
	case *logv1.ChainStarted:
		k = KindChainStarted

	case *logv1.TxLaunched:
		k = KindTxLaunched

	case *logv1.TxExpired:
		k = KindTxExpired

	case *logv1.OrderDecided:
		k = KindOrderDecided

	case *logv1.BlockCommitted:
		k = KindBlockCommitted

	case *logv1.ChainReset:
		k = KindChainReset

	case *logv1.SnapshotInstalled:
		k = KindSnapshotInstalled

	case *logv1.Base:
		k = KindBase

	default:
		return eventlog.Record{}, fmt.Errorf("record: %T is not a record of the event log", m)
	}

	data, err := proto.Marshal(m)
	if err != nil {
		return eventlog.Record{}, fmt.Errorf("record %s: %w", KindName(k), err)
	}

	return eventlog.Record{Kind: k, Data: data}, nil
}

// DecodeRecord returns the message that an entry holds. It returns an error with the entry's index
// if this version does not know the kind, or if the bytes are not a message of that kind. The log
// has verified the bytes, so they are not damaged: another program wrote them.
func DecodeRecord(e eventlog.Entry) (proto.Message, error) {
	i := int(e.Kind) - 1
	if i < 0 || i >= len(recordKinds) {
		return nil, fmt.Errorf("record %d: unknown kind %d; a newer coppice wrote this log", e.Index, e.Kind)
	}
	m := recordKinds[i].make()
	if err := proto.Unmarshal(e.Data, m); err != nil {
		return nil, fmt.Errorf("record %d: not a %s: %w", e.Index, recordKinds[i].name, err)
	}

	return m, nil
}
