package eventlog_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/internal/vfs"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

// TestModel compares a log with its model, a slice, through appends, rolls, truncations, restarts
// and power failures.
func TestModel(t *testing.T) {
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		disk := vfs.NewDisk()
		o := small(disk)
		o.MaxBatch = int64(rapid.SampledFrom([]int{1, 500, 1 << 20}).Draw(t, "batch"))
		l, err := eventlog.Open(logDir, o)
		require.NoError(t, err)
		var (
			all     [][]byte // record i+1
			durable int
			asked   uint64
			kept    *eventlog.Retainer
			floor   uint64
		)

		draw := func(t *rapid.T) (recs []eventlog.Record) {
			for _, b := range rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 400), 1, 4).Draw(t, "records") {
				recs = append(recs, eventlog.Record{Kind: eventlog.Kind(len(b)), Data: b})
				all = append(all, b)
			}
			return recs
		}

		reopen := func(t *rapid.T) {
			var err error
			l, err = eventlog.Open(logDir, o)
			require.NoError(t, err)
			kept, floor = nil, 0
			require.GreaterOrEqual(t, l.Durable(), uint64(durable))
			require.LessOrEqual(t, l.Durable(), uint64(len(all)))
			durable = int(l.Durable())
			all = all[:durable]
		}
		defer func() { l.Close() }()

		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				first := len(all) + 1
				p := l.Append(ctx, draw(t)...)
				require.NoError(t, p.Wait(ctx))
				require.EqualValues(t, first, p.First())
				require.EqualValues(t, len(all), p.Last())
				durable = len(all)
			},
			"appendNoSync": func(t *rapid.T) {
				first := len(all) + 1
				got, err := l.AppendNoSync(ctx, draw(t)...)
				require.NoError(t, err)
				require.EqualValues(t, first, got)
			},
			"sync": func(t *rapid.T) {
				require.NoError(t, l.Sync(ctx))
				durable = len(all)
				require.EqualValues(t, durable, l.Durable())
			},
			"retain": func(t *rapid.T) {
				floor = l.First() + rapid.Uint64Range(0, 50).Draw(t, "ahead")
				kept = l.Retain("reader", floor)
			},
			"release": func(t *rapid.T) {
				if kept != nil {
					kept.Release()
					kept, floor = nil, 0
				}
			},
			"truncate": func(t *rapid.T) {
				before := rapid.Uint64Range(0, uint64(len(all)+5)).Draw(t, "before")
				was := l.First()
				_, err := l.Truncate(before)
				require.NoError(t, err)
				asked = max(asked, before)
				if kept != nil {
					require.LessOrEqual(t, l.First(), max(floor, was))
				}
			},
			"restart": func(t *rapid.T) {
				require.NoError(t, l.Close())
				durable = len(all)
				reopen(t)
				require.True(t, l.Recovery().Clean)
			},
			"powerCut": func(t *rapid.T) {
				rng := newRand(rapid.Uint64().Draw(t, "seed"))
				crashed := disk.Crash(rng, rapid.IntRange(0, 100).Draw(t, "percent"))
				require.NoError(t, l.Close()) // the log on the disk that did not crash
				disk = crashed
				o.FS = disk
				reopen(t)
			},
			"": func(t *rapid.T) {
				require.LessOrEqual(t, l.First(), max(asked, 1))
				require.EqualValues(t, len(all)+1, l.Stat().Next)
				from := l.First()
				if n := l.Durable() - min(l.Durable(), l.First()); n > 20 {
					from += rapid.Uint64Range(0, n).Draw(t, "from")
				}

				c, err := l.Cursor(from)
				require.NoError(t, err)
				defer c.Close()

				for i := from; i <= l.Durable(); i++ {
					e, ok, err := c.TryNext()
					require.NoError(t, err)
					require.True(t, ok)
					require.Equal(t, i, e.Index)
					require.Equal(t, string(all[i-1]), string(e.Data))
					require.EqualValues(t, eventlog.Kind(len(all[i-1])), e.Kind)
				}
			},
		})
	})
}
