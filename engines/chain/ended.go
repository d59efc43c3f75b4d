package chain

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/coppice-go/coppice/eventlog"
)

// Numbers of fields of log.proto.
const (
	fieldResults = 6 // of BlockCommitted
	fieldID      = 1 // of TxResult
)

// EndedIDs calls f with the id of each result of a BlockCommitted, in order, until f fails. It
// decodes nothing else: results and changes are most of a log, and a pool that is started again
// wants to know only what has ended. It returns an error with the entry's index if the bytes are
// not a message of that kind, as far as it reads them.
func EndedIDs(e eventlog.Entry, f func(TxID) error) error {
	bad := func(err error) error { return fmt.Errorf("record %d: not a BlockCommitted: %w", e.Index, err) }

	return fields(e.Data, bad, func(num protowire.Number, result []byte) error {
		if num != fieldResults {
			return nil
		}

		var id []byte
		err := fields(result, bad, func(num protowire.Number, b []byte) error {
			if num == fieldID {
				id = b
			}
			return nil
		})
		if err != nil {
			return err
		}
		tx, err := TxIDFromBytes(id)
		if err != nil {
			return fmt.Errorf("record %d: %w", e.Index, err)
		}
		return f(tx)
	})
}

// fields calls f with each field of a message that holds bytes, and passes over the others.
func fields(b []byte, bad func(error) error, f func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return bad(protowire.ParseError(n))
		}
		b = b[n:]

		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return bad(protowire.ParseError(n))
			}
			b = b[n:]
			continue
		}

		value, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return bad(protowire.ParseError(n))
		}
		if err := f(num, value); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
