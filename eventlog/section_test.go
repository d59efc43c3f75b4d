package eventlog_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
)

// A cursor with Sections gives the same records as one without: those of large frames in place. A
// section stays readable after the cursor has gone and the log was truncated.
func TestRecordsOfLargeFramesAreReadInPlace(t *testing.T) {
	dir := t.TempDir()
	l, err := eventlog.Open(dir, eventlog.Options{SegmentSize: 1 << 16})
	require.NoError(t, err)
	defer func() { l.Close() }()
	var want []eventlog.Record
	for n := range 40 {
		frame := []eventlog.Record{{Kind: 1, Data: bytes.Repeat([]byte{byte(n)}, n)},
			{Kind: 2, Data: bytes.Repeat([]byte{byte(n), 7}, n*n*10)}, {Kind: 3}}
		require.NoError(t, l.Append(t.Context(), frame...).Wait(t.Context()))
		want = append(want, frame...)
	}

	for _, from := range []uint64{1, 62, 120} {
		c, err := l.Cursor(from)
		require.NoError(t, err)
		c.Sections(4 << 10)
		inPlace := 0
		for i := from; i <= l.Durable(); i++ {
			e, ok, err := c.TryNext()
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, i, e.Index)
			if e.Section != nil {
				inPlace++
				require.Nil(t, e.Data)
				e.Data, err = io.ReadAll(e.Section)
				require.NoError(t, err)
				e.Section.Close()
				e.Section.Close()
			}
			require.Equal(t, want[i-1].Kind, e.Kind)
			require.True(t, bytes.Equal(want[i-1].Data, e.Data), "record %d", i)
		}
		_, ok, err := c.TryNext()
		require.NoError(t, err)
		require.False(t, ok)
		require.Positive(t, inPlace)
		c.Close()
	}

	c, err := l.Cursor(62)
	require.NoError(t, err)
	c.Sections(4 << 10)
	e, _, err := c.TryNext()
	require.NoError(t, err)
	c.Close()
	_, err = l.Truncate(l.Durable())
	require.NoError(t, err)
	require.Greater(t, l.First(), uint64(62))
	data, err := io.ReadAll(e.Section)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want[61].Data, data))
	e.Section.Close()
}

// Damage of a large frame is found before any record of it is returned.
func TestADamagedLargeFrameIsNotReadInPlace(t *testing.T) {
	dir := t.TempDir()
	l, err := eventlog.Open(dir, eventlog.Options{})
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, l.Append(t.Context(), eventlog.Record{Kind: 1, Data: make([]byte, 100_000)}).Wait(t.Context()))

	files, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	require.NoError(t, err)
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{1}, 60_000)
	require.NoError(t, err)
	require.NoError(t, f.Close())

	c, err := l.Cursor(1)
	require.NoError(t, err)
	defer c.Close()
	c.Sections(1)
	_, ok, err := c.TryNext()
	require.False(t, ok)
	damage := new(eventlog.CorruptError)
	require.ErrorAs(t, err, &damage)
	require.EqualValues(t, 1, damage.Index)
	_, _, err = c.TryNext()
	require.ErrorAs(t, err, &damage, "it stays")
}
