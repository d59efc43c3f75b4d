package history_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/node/history"
)

var logID = [16]byte{1}

func begin(h *history.History, durable uint64) *history.History { return h.Begin(logID, 1, durable) }

// log is a log in a model: its records, each different from every other, and its history.
type log struct {
	records []uint64
	history *history.History
}

func (l *log) start(first uint64) { l.history = l.history.Begin(logID, first, uint64(len(l.records))) }

func (l *log) copy() *log { return &log{append([]uint64(nil), l.records...), l.history} }

// cursor is a cursor that a log handed out, with the record that it stands for.
type cursor struct {
	era   string
	index uint64
	read  []uint64 // all records up to it
}

// Logs are started, extended, copied at any moment, and cut at their ends. A cursor of any of them
// is accepted by another only if the other has the same records up to it, and a refusal that names
// a common part is exact.
func TestACursorIsAcceptedOnlyByALogThatHasItsRecords(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		logs := []*log{{}}
		logs[0].start(1)
		var cursors []cursor
		next, accepted, refused := uint64(0), 0, 0

		for range 200 {
			l := logs[r.IntN(len(logs))]

			switch r.IntN(6) {
			case 0:
				l.start(1)
			case 1:
				c := l.copy() // a copy, or what a backup holds: another process starts it
				if r.IntN(2) == 0 {
					c.records = c.records[:len(c.records)-r.IntN(len(c.records)+1)]
				}
				c.start(1)
				logs = append(logs, c)
			default:
				for range 1 + r.IntN(3) {
					next++
					l.records = append(l.records, next)
				}
			}

			if n := uint64(len(l.records)); n > 0 {
				i := 1 + r.Uint64N(n)
				cursors = append(cursors, cursor{l.history.At(i), i, append([]uint64(nil), l.records[:i]...)})
			}
		}

		for _, c := range cursors {
			for _, l := range logs {
				err := l.history.Check(c.era, c.index, 1)
				if c.index > uint64(len(l.records)) {
					continue // the log's own bounds refuse it
				}

				var foreign *history.ForeignError
				if err == nil {
					require.Equal(t, c.read, l.records[:c.index], "seed %d", seed)
					accepted++
					continue
				}

				refused++
				require.ErrorIs(t, err, history.ErrForeign)
				require.ErrorAs(t, err, &foreign)
				if foreign.Known {
					require.Less(t, foreign.Common, c.index)
					require.Equal(t, c.read[:foreign.Common], l.records[:foreign.Common], "seed %d", seed)
					require.NotEqual(t, c.read[foreign.Common], l.records[foreign.Common], "seed %d", seed)
					require.NoError(t, l.history.Check(c.era, foreign.Common, 1), "the cursor that the error advises")
				}
			}
		}

		require.NotZero(t, accepted)
		require.NotZero(t, refused)
	}
}

func TestCursorsOfTheSameLogAreAccepted(t *testing.T) {
	h := begin(nil, 0)
	first := h.Now()
	h = begin(h, 10)
	second := h.Now()
	require.Equal(t, []string{first, first, second}, []string{h.At(1), h.At(10), h.At(11)})
	require.NoError(t, h.Check(first, 10, 1))
	require.NoError(t, h.Check(second, 11, 1))
	require.NoError(t, h.Check("", 5, 1), "a cursor without a history")
	err := h.Check(first, 11, 1)
	require.ErrorContains(t, err, "ends at record 10")
	require.ErrorContains(t, err, "start again from "+first+":10")

	for range 1000 { // starts that write nothing leave nothing behind
		h = begin(h, 10)
	}
	require.Len(t, h.Eras, 2)
}

// What a log lost, or another log wrote, is forgotten, and so is what was truncated.
func TestErasFollowTheLog(t *testing.T) {
	h := begin(begin(begin(nil, 0), 10), 20)
	require.Len(t, h.Eras, 3)
	require.Len(t, begin(h, 15).Eras, 3, "the log lost the records of the last era")
	require.Len(t, h.Begin([16]byte{2}, 1, 30).Eras, 1, "another log")
	require.Len(t, h.Begin(logID, 15, 30).Eras, 3, "the first era has no record any more")

	restored := h.Restored([16]byte{2}, 20)
	require.Len(t, restored.Eras, 2)
	require.NoError(t, restored.Begin([16]byte{2}, 1, 20).Check(h.At(20), 20, 1))
	require.ErrorIs(t, restored.Begin([16]byte{2}, 1, 20).Check(h.Now(), 25, 1), history.ErrForeign)
}

// Every flipped bit of the file is noticed.
func TestADamagedFileIsNoHistory(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "data"), 0o700))
	h := begin(begin(nil, 0), 10)
	require.NoError(t, h.Write(dir))
	read, err := history.Read(dir)
	require.NoError(t, err)
	require.Equal(t, h, read)

	data := h.JSON()
	for i := range len(data) * 8 {
		data[i/8] ^= 1 << (i % 8)
		_, err := history.Parse(data)
		require.ErrorIs(t, err, history.ErrFile, "bit %d", i)
		data[i/8] ^= 1 << (i % 8)
	}
}
