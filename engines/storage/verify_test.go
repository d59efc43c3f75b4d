package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// The ids of a large block are summed beside its keys, and those that expire are removed in chunks
// on another core. The scan sums all again, in one piece (I3).
func TestIDsOfALargeBlockAreSummedBesideItsKeys(t *testing.T) {
	const many = removalChunk + forkIDs
	d, other := started(t), started(t)
	for index, now := range []time.Time{genesis, genesis.Add(time.Second), genesis.Add(2 * window)} {
		var txs [][]byte
		for i := range many {
			txs = append(txs, tx(t, index*many+i, now.Add(window)))
		}

		b := block(d, now, txs...)
		_, err := d.Begin(b)
		require.NoError(t, err)

		for i := range txs {
			v := chain.Version{Period: 1, Height: b.Height, Index: uint32(i)}
			c := at(v, put(fmt.Sprint("key ", i), fmt.Sprint(index)))
			require.NoError(t, d.Finish(v, c, &logv1.TxResult{Data: []byte("done")}))
		}

		s, err := d.Seal()
		require.NoError(t, err)
		require.NoError(t, d.Commit(uint64(index+2), committed(s)))
		require.NoError(t, other.Redo(uint64(index+2), committed(s)))
		require.NoError(t, d.VerifyScan(t.Context(), nil))
		require.NoError(t, other.VerifyScan(t.Context(), nil))
	}

	stat, err := d.Stat()
	require.NoError(t, err)
	require.EqualValues(t, many, stat.IDs, "those of the first two blocks have expired")
}

// A scan finds and names damage that was done behind the DB's back.
func TestVerifyScanNamesWhatDiffers(t *testing.T) {
	id := chain.HashTx(tx(t, 2, genesis.Add(window)))
	idKey := string(appliedKey(id[:]))
	expiry := string(expiryKey(genesis.Add(window).UnixMilli(), id[:]))
	v1 := chain.Version{Period: 1, Height: 1}
	entry := func(v chain.Version, value string) string {
		return string(latest{version: v, value: []byte(value)}.encode(nil))
	}
	for name, c := range map[string]struct {
		key, value string // "" deletes
		want       []string
	}{
		"altered value": {"ka", entry(v1, "2"), []string{"the 2 keys and 3 ids give app hash", "altered"}},
		"lost key":      {"ka", "", []string{"1 of 2 latest keys are missing", "app hash"}},
		"key too many":  {"kz", entry(v1, "2"), []string{"1 latest keys too many, want 2", "app hash"}},
		"key of the future": {"kz", entry(chain.Version{Period: 1, Height: 9}, ""),
			[]string{`key "z" was written at 1/9/0, after the last committed block, 1/3`}},
		"short entry": {"ka", "short", []string{`the latest entry of key "a" has 5 bytes`}},
		"empty key":   {"k", entry(v1, ""), []string{"empty key"}},
		"lost id": {idKey, "",
			[]string{"1 of 3 applied ids are missing", id.String() + " has an expiry entry"}},
		"no result":        {idKey, "\xff", []string{id.String()}},
		"another's result": {idKey, "\x0a\x01x", []string{"is of transaction 78"}},
		"lost expiry":      {expiry, "", []string{id.String() + " would never be forgotten"}},
		"altered expiry":   {expiry, strings.Repeat("x", 32), []string{id.String() + ": its expiry entry has leaf"}},
		"short expiry":     {expiry, "x", []string{"the expiry entry"}},
		"lost block": {string(heightKey(spaceBlock, 1, 3)), "",
			[]string{"entry of the last block, 3, is missing"}},
		"altered block": {string(heightKey(spaceBlock, 1, 3)), strings.Repeat("x", 90),
			[]string{"entry of the last block, 3, is of block"}},
		"short block":        {string(heightKey(spaceBlock, 1, 3)), "x", []string{"block 3 of period 1 has 1 bytes"}},
		"altered oldest":     {string(heightKey(spaceBlock, 1, 1)), "x", nil},
		"altered node-local": {"nx", "y", nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := started(t)
			d.testCommit(t, 2, put("a", "1"), put("b", "1"))
			d.testCommit(t, 3, put("c", "1"))
			d.testCommit(t, 4, del("c"))
			require.NoError(t, d.VerifyScan(context.Background(), nil))

			if c.value == "" {
				require.NoError(t, d.pdb.Delete([]byte(c.key), pebble.NoSync))
			} else {
				require.NoError(t, d.pdb.Set([]byte(c.key), []byte(c.value), pebble.NoSync))
			}

			err := d.VerifyScan(context.Background(), nil)

			if c.want == nil {
				require.NoError(t, err)
				return
			}

			require.ErrorIs(t, err, ErrDamaged)
			for _, w := range c.want {
				require.ErrorContains(t, err, w)
			}
		})
	}
}

func TestVerifyScanIsCutShort(t *testing.T) {
	d := started(t)
	var changes []*logv1.Change
	for i := range 5000 {
		changes = append(changes, put(string([]byte{byte(i >> 8), byte(i)}), "x"))
	}

	d.testCommit(t, 2, changes...)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	err := d.VerifyScan(ctx, func(done, total uint64) {
		require.Equal(t, []uint64{4096, 5001}, []uint64{done, total})
		cancel(why)
	})
	require.ErrorIs(t, err, why)
	require.NotErrorIs(t, err, ErrDamaged)
	require.NoError(t, d.VerifyScan(context.Background(), nil))
}

// A flipped bit in a table is reported as damage to every reader. It never reads as another value.
func TestFlippedBitIsDamage(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	found := 0

	for range 40 {
		fs := vfs.NewMem()
		d := open(t, fs)
		require.NoError(t, d.StartChain(1, chainStarted(1)))
		d.testCommit(t, 2, put("a", strings.Repeat("1", 5000)), put("b", "2"))
		require.NoError(t, d.Close())
		flip(t, fs, rng)

		d, err := Open(dir, Options{FS: fs})
		if err != nil {
			found++
			continue
		}

		err = d.VerifyScan(context.Background(), nil)

		value, ok, _, getErr := d.Get([]byte("a"), 0)
		if getErr == nil {
			require.True(t, ok)
			require.Equal(t, strings.Repeat("1", 5000), string(value))
		}

		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			require.ErrorContains(t, err, ".sst", "the file is named")
			require.ErrorIs(t, d.Err(), errFailed, "and it is sticky")
			_, _, _, err = d.Get([]byte("b"), 0)
			require.ErrorIs(t, err, errFailed)
			found++
		}

		require.NoError(t, d.Close())
	}

	require.Greater(t, found, 10, "most of a table is data")
}

// A flipped bit anywhere in a table is found by a scan of a state that is open for reading only: in
// a version that was replaced, an index, a filter, the properties, or the footer.
func TestEveryByteOfATableIsVerified(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	require.NoError(t, d.StartChain(1, chainStarted(1)))

	for i := range 20 { // the older versions fill more than one block
		d.testCommit(t, uint64(2+i), put("a", strings.Repeat(string(rune('a'+i)), 5000)), put("b", "2"))
	}

	require.NoError(t, d.Close())
	tables := 0

	for _, name := range tablesOf(t, fs) {
		size := sizeOf(t, fs, name)
		tables++

		for at := range size {
			// Every third byte of what is not data, and a sample of the data.
			if at < size-2000 && at%197 != 0 || at%3 != 0 {
				continue
			}
			bit := byte(1) << (at % 8)
			flipAt(t, fs, name, at, bit)
			d, err := Open(dir, Options{FS: fs, ReadOnly: true})
			if err == nil {
				err = errors.Join(d.VerifyScan(t.Context(), nil), d.Close())
			}
			require.ErrorIs(t, err, ErrDamaged, "%s, byte %d of %d", name, at, size)
			flipAt(t, fs, name, at, bit)
		}

		truncated := vfs.NewMem()
		_, err := vfs.Clone(fs, truncated, dir, dir)
		require.NoError(t, err)
		require.NoError(t, truncated.Remove(path.Join(dir, name)))
		d, err := Open(dir, Options{FS: truncated, ReadOnly: true})
		if err == nil {
			err = errors.Join(d.VerifyScan(t.Context(), nil), d.Close())
		}
		require.ErrorIs(t, err, ErrDamaged, "without %s", name)
	}

	require.Positive(t, tables)
	d, err := Open(dir, Options{FS: fs, ReadOnly: true})
	require.NoError(t, err)
	require.NoError(t, d.VerifyScan(t.Context(), nil), "every bit is back")
	require.NoError(t, d.Close())
}

// A flipped bit anywhere in the MANIFEST is damage to whoever opens the state. Pebble alone took an
// older version of the state, used its numbers again, and a later compaction failed.
func TestEveryByteOfTheManifestIsVerified(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	require.NoError(t, d.StartChain(1, chainStarted(1)))
	for i := range 5 {
		d.testCommit(t, uint64(2+i), put("a", strings.Repeat("x", i)))
		_, err := d.Flush()
		require.NoError(t, err)
	}
	require.NoError(t, d.Close())

	desc, err := pebble.Peek(dir, fs)
	require.NoError(t, err)
	name := path.Base(desc.ManifestFilename)

	for at := range sizeOf(t, fs, name) {
		bit := byte(1) << (at % 8)
		flipAt(t, fs, name, at, bit)
		for _, readOnly := range []bool{true, false} {
			_, err := Open(dir, Options{FS: fs, ReadOnly: readOnly})
			require.ErrorIs(t, err, ErrDamaged, "byte %d", at)
			require.ErrorContains(t, err, name)
		}
		flipAt(t, fs, name, at, bit)
	}

	d, err = Open(dir, Options{FS: fs})
	require.NoError(t, err, "every bit is back")
	require.NoError(t, d.Close())
}

// tablesOf returns the names of a state's tables.
func tablesOf(t *testing.T, fs vfs.FS) (tables []string) {
	t.Helper()
	names, err := fs.List(dir)
	require.NoError(t, err)

	for _, n := range names {
		if path.Ext(n) == ".sst" {
			tables = append(tables, n)
		}
	}

	return tables
}

func sizeOf(t *testing.T, fs vfs.FS, name string) int64 {
	t.Helper()
	st, err := fs.Stat(path.Join(dir, name))
	require.NoError(t, err)
	return st.Size()
}

// flipAt flips bits of one byte of a file of the state.
func flipAt(t *testing.T, fs vfs.FS, name string, at int64, bits byte) {
	t.Helper()
	f, err := fs.OpenReadWrite(path.Join(dir, name), vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	require.NoError(t, err)
	b[0] ^= bits
	_, err = f.WriteAt(b, at)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// flip flips a random bit of the one table.
func flip(t *testing.T, fs vfs.FS, rng *rand.Rand) {
	tables := tablesOf(t, fs)
	require.NotEmpty(t, tables, "no table was written")
	at := rng.Int64N(sizeOf(t, fs, tables[0]))
	flipAt(t, fs, tables[0], at, 1<<rng.IntN(8))
}
