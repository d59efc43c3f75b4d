package storage

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

const (
	benchTxs   = 1000 // of one put of 64 bytes each
	benchBlock = time.Second
)

// benchTx returns the n-th transaction, and what it writes. The size of the key space decides
// whether it writes new keys or replaces values.
func benchTx(b *testing.B, n, keys int, at time.Time) ([]byte, []byte, []byte) {
	raw := tx(b, n, at.Add(window))
	key := binary.BigEndian.AppendUint64(nil, uint64(n%keys)*0x9e3779b97f4a7c15)
	value := make([]byte, 64)
	binary.BigEndian.PutUint64(value, uint64(n))
	return raw, key, value
}

// BenchmarkBlock measures Begin to Commit on a disk, without a sync of ours: Pebble flushes and
// compacts meanwhile. Each block also forgets about as many ids as it adds.
func BenchmarkBlock(b *testing.B) {
	for name, keys := range map[string]int{"new": 1 << 40, "replaced": 100_000} {
		b.Run(name, func(b *testing.B) {
			d, err := Open(b.TempDir(), Options{})
			require.NoError(b, err)
			defer d.Close()

			require.NoError(b, d.StartChain(1, chainStarted(1)))
			n := 0

			for h := uint64(1); b.Loop(); h++ {
				b.StopTimer()
				now := genesis.Add(time.Duration(h) * benchBlock)

				txs, changes := make([][]byte, benchTxs), make([][]*logv1.Change, benchTxs)
				for i := range txs {
					raw, key, value := benchTx(b, n, keys, now)
					n++
					txs[i] = raw
					changes[i] = at(chain.Version{Period: 1, Height: h, Index: uint32(i)},
						&logv1.Change{Key: key, Value: value})
				}

				bl := block(d, now, txs...)
				b.StartTimer()

				_, err := d.Begin(bl)
				require.NoError(b, err)

				for i := range changes {
					if err := d.Finish(chain.Version{Period: 1, Height: h, Index: uint32(i)}, changes[i],
						new(logv1.TxResult)); err != nil {
						b.Fatal(err)
					}
				}

				s, err := d.Seal()
				require.NoError(b, err)
				require.NoError(b, d.Commit(h+1, committed(s)))
			}

			b.ReportMetric(float64(benchTxs)*float64(b.N)/b.Elapsed().Seconds(), "changes/s")
		})
	}
}

// BenchmarkRedo applies such blocks from their records.
func BenchmarkRedo(b *testing.B) {
	d, err := Open(b.TempDir(), Options{})
	require.NoError(b, err)
	defer d.Close()

	require.NoError(b, d.StartChain(1, chainStarted(1)))
	n := 0

	for h := uint64(1); b.Loop(); h++ {
		b.StopTimer()
		now := genesis.Add(time.Duration(h) * benchBlock)
		rec := &logv1.BlockCommitted{ChainId: "test-1", Period: 1, Height: h, BlockHash: fmt.Append(nil, h),
			TimeNs: now.UnixNano()}

		for i := range benchTxs {
			raw, key, value := benchTx(b, n, 1<<40, now)
			n++
			v := chain.Version{Period: 1, Height: h, Index: uint32(i)}
			id := chain.HashTx(raw)
			rec.Results = append(rec.Results,
				&logv1.TxResult{Id: id[:], Version: v.Proto(), ValidUntilMs: now.Add(window).UnixMilli()})
			rec.Changes = append(rec.Changes, at(v, &logv1.Change{Key: key, Value: value})...)
		}

		o, err := d.fold(header{h, rec.BlockHash, now}, rec.Results, rec.Changes, d.committedGround())
		require.NoError(b, err)
		rec.AppHash = o.next.AppHash
		b.StartTimer()

		require.NoError(b, d.Redo(h+1, rec))
	}

	b.ReportMetric(float64(benchTxs)*float64(b.N)/b.Elapsed().Seconds(), "changes/s")
}

// BenchmarkGet reads random keys of 200,000 latest keys, with no other load.
func BenchmarkGet(b *testing.B) {
	d, err := Open(b.TempDir(), Options{})
	require.NoError(b, err)
	defer d.Close()

	require.NoError(b, d.StartChain(1, chainStarted(1)))
	const blocks, per = 40, 5000
	key := func(i int) []byte { return fmt.Appendf(nil, "key-%08d", i) }

	for h := range blocks {
		changes := make([]*logv1.Change, per)
		for i := range changes {
			changes[i] = &logv1.Change{Key: key(h*per + i), Value: make([]byte, 64)}
		}
		d.testCommit(b, uint64(h+2), changes...)
	}

	_, err = d.Flush()
	require.NoError(b, err)
	i := 0

	for b.Loop() {
		i = (i*1103515245 + 12345) & (1<<30 - 1)
		_, found, _, err := d.Get(key(i%(blocks*per)), 0)
		if err != nil || !found {
			b.Fatal(found, err)
		}
	}
}
