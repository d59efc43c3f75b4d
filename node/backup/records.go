package backup

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
)

// recordSum is the digest of a backup's records.
type recordSum struct{ h hash.Hash }

// newRecordSum returns the digest of no records.
func newRecordSum() recordSum { return recordSum{sha256.New()} }

// add adds the next record to the digest.
func (s recordSum) add(kind uint8, data []byte) {
	var head [5]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(data)))
	s.h.Write(head[:])
	s.h.Write(data)
}

// EachRecord calls f for the records first to last of a log that exist. An entry is valid only
// during the call.
func EachRecord(ctx context.Context, l *eventlog.Log, first, last uint64, f func(eventlog.Entry) error) error {
	for e, err := range chain.Records(l.Cursor, first, min(last, l.Durable())) {
		if err := cmp.Or(err, context.Cause(ctx)); err != nil {
			return err
		}
		if err := f(e); err != nil {
			return err
		}
	}

	return nil
}

// ReadRecords calls f for all records of the log in dir. An entry is valid only during the call.
func ReadRecords(ctx context.Context, dir string, f func(eventlog.Entry) error) error {
	l, err := eventlog.OpenReadOnly(dir, eventlog.Options{})
	if err != nil {
		return err
	}
	defer l.Close()
	return EachRecord(ctx, l, l.First(), l.Durable(), f)
}
