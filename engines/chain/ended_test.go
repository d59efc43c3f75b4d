package chain

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// EndedIDs finds what DecodeRecord finds, whatever else a record has. Bytes that are cut off are an
// error, or what a whole message says that ends there.
func TestEndedIDsAreThoseOfTheMessage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bytes := func(what string, most int) []byte { return rapid.SliceOfN(rapid.Byte(), 0, most).Draw(t, what) }
		m := &logv1.BlockCommitted{ChainId: "orchard", Height: rapid.Uint64().Draw(t, "height"),
			BlockHash: bytes("hash", 32), AppHash: bytes("app hash", 32), TimeNs: rapid.Int64().Draw(t, "time")}
		for range rapid.IntRange(0, 4).Draw(t, "results") {
			var id TxID
			copy(id[:], bytes("id", len(id)))
			m.Results = append(m.Results, &logv1.TxResult{Id: id[:], Version: &logv1.Version{Height: 1, Index: 2},
				Data: bytes("data", 9), ValidUntilMs: rapid.Int64().Draw(t, "until"),
				Events: []*logv1.Emitted{{Type: "x"}}})
			m.Changes = append(m.Changes, &logv1.Change{Key: bytes("key", 9), Value: bytes("value", 9)})
		}
		rec, err := NewRecord(m)
		require.NoError(t, err)

		ids := func(data []byte) (ids []TxID, err error) {
			err = EndedIDs(eventlog.Entry{Index: 7, Kind: rec.Kind, Data: data}, func(id TxID) error {
				ids = append(ids, id)
				return nil
			})
			return ids, err
		}
		got, err := ids(rec.Data)
		require.NoError(t, err)
		require.Len(t, got, len(m.Results))
		for i, r := range m.Results {
			require.Equal(t, r.Id, got[i][:])
		}

		cut := rec.Data[:rapid.IntRange(0, len(rec.Data)).Draw(t, "cut")]
		whole, err := DecodeRecord(eventlog.Entry{Index: 7, Kind: rec.Kind, Data: cut})
		got, ours := ids(cut)
		if err != nil {
			require.ErrorContains(t, ours, "record 7: not a BlockCommitted")
			return
		}
		require.NoError(t, ours)
		require.Len(t, got, len(whole.(*logv1.BlockCommitted).Results))
	})
}

func TestAnIDOfAnotherLengthIsNoResult(t *testing.T) {
	rec, err := NewRecord(&logv1.BlockCommitted{Results: []*logv1.TxResult{{Id: []byte("short")}}})
	require.NoError(t, err)
	err = EndedIDs(eventlog.Entry{Index: 3, Data: rec.Data}, func(TxID) error { return nil })
	require.ErrorContains(t, err, "record 3: transaction id: 5 bytes, want 32")
}
