package logstream

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func export(t testing.TB, json bool) []byte {
	var out bytes.Buffer
	w := NewWriter(&out, json)
	require.NoError(t, w.Begin(&logv1.ExportBegin{LogId: make([]byte, 16), First: 7, Last: 12}))
	require.NoError(t, w.Record(&logv1.ExportRecord{Index: 7, Kind: 3, Data: []byte("seven")}))
	require.NoError(t, w.Gap(&logv1.ExportGap{First: 8, Count: 3, Reason: "a flipped bit"}))
	require.NoError(t, w.Gap(&logv1.ExportGap{First: 11, Reason: "nobody knows"}))
	require.NoError(t, w.Record(&logv1.ExportRecord{Index: 11, Kind: 255}))
	require.NoError(t, w.Record(&logv1.ExportRecord{Index: 12, Data: bytes.Repeat([]byte{0, 1, 2, '\n'}, 100)}))
	n, err := w.End()
	require.NoError(t, err)
	require.EqualValues(t, 3, n)

	return out.Bytes()
}

// read reads an export to its end.
func read(b []byte) (records []*logv1.ExportRecord, gaps []*logv1.ExportGap, err error) {
	x, err := NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, nil, err
	}

	for {
		r, g, err := x.Next()
		switch {
		case err == io.EOF:
			return records, gaps, nil
		case err != nil:
			return records, gaps, err
		case r != nil:
			records = append(records, r)
		default:
			gaps = append(gaps, g)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, json := range []bool{false, true} {
		records, gaps, err := read(export(t, json))
		require.NoError(t, err)
		require.Len(t, records, 3)
		require.Len(t, gaps, 2)
		require.Equal(t, "seven", string(records[0].Data))
		require.EqualValues(t, 255, records[1].Kind)
		require.EqualValues(t, 3, gaps[0].Count)
	}
	require.Equal(t, 7, bytes.Count(export(t, true), []byte("\n")), "one message, one line")
}

// An export that was cut short, or in which a bit was flipped, is never accepted as valid.
func TestEveryCutAndEveryBit(t *testing.T) {
	want, wantGaps, err := read(export(t, false))
	require.NoError(t, err)

	for _, json := range []bool{false, true} {
		b := export(t, json)
		for n := range b {
			_, _, err := read(b[:n])
			require.ErrorIs(t, err, ErrFormat, "cut at %d", n)
		}

		_, _, err := read(append(bytes.Clone(b), b...))
		require.ErrorIs(t, err, ErrFormat)

		for i := range len(b) * 8 {
			b[i/8] ^= 1 << (i % 8)
			// blanks, case of a base64 variant, an unknown field, the log's identity
			if records, gaps, err := read(b); err == nil {
				require.Len(t, records, len(want))
				for j := range want {
					require.True(t, proto.Equal(strip(want[j]), strip(records[j])), "bit %d: wrong data", i)
				}
				require.Len(t, gaps, len(wantGaps))
			} else {
				require.ErrorIs(t, err, ErrFormat)
			}

			b[i/8] ^= 1 << (i % 8)
		}
	}
}

// strip removes what this version does not know and the digest does not cover.
func strip(r *logv1.ExportRecord) *logv1.ExportRecord {
	return &logv1.ExportRecord{Index: r.Index, Kind: r.Kind, Data: r.Data}
}

func TestRefusals(t *testing.T) {
	make16 := make([]byte, 16)
	begin := func(b *logv1.ExportBegin, rest ...func(*Writer)) []byte {
		var out bytes.Buffer
		w := NewWriter(&out, false)
		require.NoError(t, w.Begin(b))
		for _, f := range rest {
			f(w)
		}

		_, err := w.End()
		require.NoError(t, err)

		return out.Bytes()
	}
	record := func(i uint64) func(*Writer) {
		return func(w *Writer) { require.NoError(t, w.Record(&logv1.ExportRecord{Index: i})) }
	}
	for says, b := range map[string][]byte{
		"identity has 3 bytes":     begin(&logv1.ExportBegin{LogId: []byte("abc"), First: 1}),
		"claims records 5 to 2":    begin(&logv1.ExportBegin{LogId: make16, First: 5, Last: 2}),
		"record 3, want 2":         begin(&logv1.ExportBegin{LogId: make16, First: 1, Last: 3}, record(1), record(3)),
		"record 1, want 2":         begin(&logv1.ExportBegin{LogId: make16, First: 1, Last: 3}, record(1), record(1)),
		"goes past record 1":       begin(&logv1.ExportBegin{LogId: make16, First: 1, Last: 1}, record(1), record(2)),
		"ends before record 2":     begin(&logv1.ExportBegin{LogId: make16, First: 1, Last: 3}, record(1)),
		"does not start":           {0x00},
		"without an end message":   {},
		"bytes, at most":           {0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"no length":                bytes.Repeat([]byte{0xff}, 11),
		"ends after 1 of 40 bytes": {40, 1},
	} {
		_, _, err := read(b)
		require.ErrorIs(t, err, ErrFormat)
		require.ErrorContains(t, err, says)
	}

	records, _, err := read(begin(&logv1.ExportBegin{LogId: make16, First: 1, Last: 9, Kinds: []uint32{3}},
		record(2), record(7)))
	require.NoError(t, err, "filtered")
	require.Len(t, records, 2)
}

// Whatever the bytes, reading ends with an ErrFormat, or with an export that matches its digest,
// and takes no more memory than there are bytes.
func FuzzRead(f *testing.F) {
	f.Add(export(f, false))
	f.Add(export(f, true))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x03, 0x0a})
	f.Add([]byte(`{"begin":{"version":1}}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := read(b); err != nil && !errors.Is(err, ErrFormat) {
			t.Fatal(err)
		}
	})
}
