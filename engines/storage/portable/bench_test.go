package portable

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/storage"
)

// benchKeys returns the number of keys in the benchmarks' state. COPPICE_BENCH_KEYS overrides it.
func benchKeys(b *testing.B) int {
	if s := os.Getenv("COPPICE_BENCH_KEYS"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(b, err)
		return n
	}
	return 100_000
}

// BenchmarkSnapshot makes a snapshot of a state on a disk, with keys of 20 and values of 100 bytes,
// and then a state from the snapshot.
func BenchmarkSnapshot(b *testing.B) {
	n := &node{t: b, fs: vfs.Default}
	home := b.TempDir()
	var err error
	n.db, err = storage.Open(filepath.Join(home, "state"), storage.Options{})
	require.NoError(b, err)
	defer func() { require.NoError(b, n.db.Close()) }()

	n.index = 1
	require.NoError(b, n.db.StartChain(1, chainStarted()))
	value := fmt.Sprintf("%0100d", 7)

	for left := benchKeys(b); left > 0; left -= 5000 {
		w := make([]write, 0, 5000)
		for i := range min(5000, left) {
			w = append(w, write{key: fmt.Sprintf("key-%016d", left+i), value: value})
		}
		n.block(w...)
	}

	d := Dir{FS: n.fs, Path: filepath.Join(home, "peers")}
	require.NoError(b, d.Settle())
	var m Metadata
	b.Run("take", func(b *testing.B) {
		for b.Loop() {
			p, err := n.db.Pin()
			require.NoError(b, err)
			m, err = d.Take(context.Background(), p, Taking{})
			require.NoError(b, err)
			require.NoError(b, p.Close())
		}

		b.SetBytes(int64(m.Bytes))
		b.ReportMetric(float64(m.Keys), "keys")
		b.ReportMetric(float64(m.IDs), "ids")
		b.ReportMetric(float64(len(m.Chunks)), "chunks")
	})

	b.Run("import", func(b *testing.B) {
		for b.Loop() {
			to := n.target(n.fs)
			to.Dir = filepath.Join(home, "import")
			i, err := NewImport(m, to)
			require.NoError(b, err)

			for k := range m.Chunks {
				c, err := d.Chunk(m, uint32(k))
				require.NoError(b, err)
				require.NoError(b, i.Apply(uint32(k), c))
			}

			require.NoError(b, i.Finish())
			require.NoError(b, i.Abort())
		}
		b.SetBytes(int64(m.Bytes))
	})
}
