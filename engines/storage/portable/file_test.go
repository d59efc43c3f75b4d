package portable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage"
)

// exported returns a node with a few blocks, and its state as a file of small chunks.
func exported(t *testing.T) (*node, []byte) {
	t.Helper()
	n := newNode(t, vfs.NewMem())
	t.Cleanup(func() { require.NoError(t, n.db.Close()) })
	n.block(write{key: "a", value: strings.Repeat("1", 150)}, write{key: "b", value: "2"})
	n.block(write{key: "c", value: "3"}, write{key: "b", del: true})

	p, err := n.db.Pin()
	require.NoError(t, err)
	defer p.Close()

	s := n.db.State()
	var b bytes.Buffer
	_, err = Export(t.Context(), &b, p, About{Program: "test", Created: time.Unix(1e9, 0).UTC(),
		Genesis: chain.NewGenesis("orchard", genesis), BlockHash: s.BlockHash, BlockTime: s.Time,
		LogID: bytes.Repeat([]byte{7}, 16), Index: s.Index}, Taking{ChunkBytes: minChunkBytes})
	require.NoError(t, err)

	return n, b.Bytes()
}

// build reads a whole file and makes the state in it.
func build(t *testing.T, data []byte, fs vfs.FS) (*File, error) {
	t.Helper()
	f, err := ReadFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	return f, f.Build(t.Context(), Target{FS: fs, Dir: "built", Chain: chainStarted()}, nil)
}

func TestAFileCarriesTheState(t *testing.T) {
	n, data := exported(t)
	fs := vfs.NewMem()
	f, err := build(t, data, fs)
	require.NoError(t, err)

	s := n.db.State()
	require.Equal(t, "test", f.Program)
	require.Equal(t, s.Index, f.Index)
	require.Equal(t, s.Height, f.Height)
	require.Greater(t, len(f.Chunks), 3)

	db, err := storage.Open("built", storage.Options{FS: fs, ReadOnly: true})
	require.NoError(t, err)
	defer db.Close()

	require.NoError(t, db.VerifyScan(t.Context(), nil))
	built := db.State()
	require.Equal(t, s.AppHash, built.AppHash)
	require.Equal(t, s.BlockHash, built.BlockHash)
	require.Equal(t, s.Time.UnixNano(), built.Time.UnixNano())
}

// A snapshot for peers gives the same chunks as the state itself, and no more than it knows.
func TestASnapshotForPeersBecomesAFile(t *testing.T) {
	n, data := exported(t)
	m := n.take(minChunkBytes)

	var b bytes.Buffer
	require.NoError(t, n.dir().Export(t.Context(), &b, m, About{Genesis: chain.NewGenesis("orchard", genesis)}))
	f, err := build(t, b.Bytes(), vfs.NewMem())
	require.NoError(t, err)
	require.Empty(t, f.LogID)

	own, err := ReadFile(bytes.NewReader(data), int64(len(data)))
	require.NoError(t, err)
	require.Equal(t, own.Metadata, f.Metadata)
}

// Whatever bit of a file is another one, the file is refused and no state is left. Only a changed
// version may be taken for a newer one.
func TestAFlippedBitIsFound(t *testing.T) {
	_, data := exported(t)

	for at := range data {
		fs := vfs.NewMem()
		flipped := bytes.Clone(data)
		flipped[at] ^= 1 << (at % 8)

		_, err := build(t, flipped, fs)
		if inVersion := at >= len(fileMagic) && at < len(fileMagic)+4; inVersion && errors.Is(err, ErrFormat) {
			continue
		}
		require.ErrorIs(t, err, ErrFile, "byte %d of %d", at, len(data))

		_, err = fs.Stat("built")
		require.Error(t, err, "byte %d left a state", at)
	}
}

func TestATruncatedOrLongerFileIsFound(t *testing.T) {
	_, data := exported(t)

	for size := range data {
		_, err := ReadFile(bytes.NewReader(data[:size]), int64(size))
		require.ErrorIs(t, err, ErrFile, "%d of %d bytes", size, len(data))
	}

	_, err := ReadFile(bytes.NewReader(data[:len(data)-1]), int64(len(data))-1)
	require.ErrorContains(t, err, "it is cut off or was changed: it ends at byte")
	_, err = ReadFile(bytes.NewReader(data[:30]), 30)
	require.ErrorContains(t, err, "it is cut off: it has 30 bytes")

	longer := append(bytes.Clone(data), 'x')
	_, err = ReadFile(bytes.NewReader(longer), int64(len(longer)))
	require.ErrorIs(t, err, ErrFile)

	tail := len(data) - tailBytes - len(mustRead(t, data).Encode())
	without := append(bytes.Clone(data[:tail-minChunkBytes]), data[tail:]...)
	_, err = ReadFile(bytes.NewReader(without), int64(len(without)))
	require.ErrorContains(t, err, "something was cut out or put in")
}

func mustRead(t *testing.T, data []byte) *File {
	t.Helper()
	f, err := ReadFile(bytes.NewReader(data), int64(len(data)))
	require.NoError(t, err)
	return f
}

func TestAnotherFileIsNamed(t *testing.T) {
	_, err := ReadFile(strings.NewReader("PK\x03\x04 something else, and long enough to have a head"), 50)
	require.ErrorIs(t, err, ErrFile)
	require.ErrorContains(t, err, `it is no snapshot file: it begins with "PK`)

	_, err = ReadFile(strings.NewReader(""), 0)
	require.ErrorIs(t, err, ErrFile)
}

func TestAFileOfANewerProgramIsRefused(t *testing.T) {
	_, data := exported(t)
	binary.BigEndian.PutUint32(data[len(fileMagic):], FileVersion+1)
	_, err := ReadFile(bytes.NewReader(data), int64(len(data)))
	require.ErrorIs(t, err, ErrFormat)
	require.NotErrorIs(t, err, ErrFile)
	require.ErrorContains(t, err, "the file has version 2, this program reads up to 1: it needs a newer coppice")
}

func TestAFileOfAnotherChainIsRefused(t *testing.T) {
	_, data := exported(t)
	other := chainStarted()
	other.ChainId = "pear"
	fs := vfs.NewMem()
	err := mustRead(t, data).Build(t.Context(), Target{FS: fs, Dir: "built", Chain: other}, nil)
	require.ErrorIs(t, err, ErrSnapshot)
	require.ErrorContains(t, err, `snapshot is of chain "orchard"`)
}

// A file that is whole, but whose metadata claims another app hash than its content has, is found
// when its state is made.
func TestAFileWithAForgedStateIsRefused(t *testing.T) {
	n, data := exported(t)
	f := mustRead(t, data)
	forged := f.Metadata
	forged.AppHash = bytes.Repeat([]byte{1}, 32)

	var b bytes.Buffer
	w, err := newFileWriter(&b, f.About)
	require.NoError(t, err)
	for place := range f.Chunks {
		chunk, err := f.Chunk(place)
		require.NoError(t, err)
		require.NoError(t, w.chunk(place, chunk))
	}
	require.NoError(t, w.end(forged))

	fs := vfs.NewMem()
	_, err = build(t, b.Bytes(), fs)
	require.ErrorIs(t, err, ErrSnapshot)
	require.ErrorIs(t, err, storage.ErrAppHash)
	_, err = fs.Stat("built")
	require.Error(t, err)
	require.NotEqual(t, n.db.State().AppHash, forged.AppHash)
}

// A power failure at any operation of an import for peers leaves no half snapshot, and keeps those
// that were there.
func TestACrashWhileAFileIsAdoptedLeavesWholeSnapshots(t *testing.T) {
	_, data := exported(t)
	f := mustRead(t, data)

	for at := int64(1); ; at++ {
		mem := vfs.NewCrashableMem()
		var ops atomic.Int64
		var after *vfs.MemFS
		d := Dir{Path: "peers", FS: errorfs.Wrap(mem, errorfs.InjectorFunc(func(errorfs.Op) error {
			if ops.Add(1) == at {
				after = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(at*37) % 101,
					RNG: rand.New(rand.NewPCG(uint64(at), 3))})
			}
			return nil
		}))}
		require.NoError(t, d.Settle())
		staged, err := d.Stage(t.Context(), f, "1")
		require.NoError(t, err)
		m, err := d.Adopt(staged, 1, nil)
		require.NoError(t, err)
		require.Equal(t, f.Metadata, m)

		if after == nil {
			require.Greater(t, at, int64(20), "operations")
			return
		}

		d = Dir{FS: after, Path: "peers"}
		require.NoError(t, d.Settle())
		list, err := d.List()
		require.NoError(t, err)
		names, err := after.List("peers")
		require.NoError(t, err)
		require.Len(t, names, len(list), "operation %d: %v", at, names)

		for _, m := range list {
			for k := range m.Chunks {
				_, err := d.Chunk(m, uint32(k))
				require.NoError(t, err, "operation %d", at)
			}
		}
	}
}

func TestWhatIsStagedIsAdoptedOnlyIfItIsWholeAndKept(t *testing.T) {
	n, data := exported(t)
	f := mustRead(t, data)
	d := n.dir()
	require.NoError(t, d.Settle())
	stage := func() string {
		staged, err := d.Stage(t.Context(), f, "7")
		require.NoError(t, err)
		return staged
	}
	names := func() []string {
		names, err := n.fs.List("peers")
		require.NoError(t, err)
		return names
	}

	for _, bad := range []string{"", "0-2", "tmp-new", "tmp-import-../../state", "../tmp-import-1", "tmp-import-none"} {
		_, err := d.Adopt(bad, 2, nil)
		require.ErrorIs(t, err, ErrNone, bad)
	}

	foreign := errors.New("foreign")
	_, err := d.Adopt(stage(), 2, func(m Metadata) error { require.Equal(t, f.Height, m.Height); return foreign })
	require.ErrorIs(t, err, foreign)
	require.Empty(t, names())

	staged := stage()
	require.NoError(t, n.fs.Remove("peers/"+staged+"/"+chunkName(1)))
	_, err = d.Adopt(staged, 2, nil)
	require.Error(t, err)
	require.Empty(t, names())

	_, err = d.Adopt(stage(), 2, nil)
	require.NoError(t, err)
	_, err = d.Adopt(stage(), 2, nil)
	require.NoError(t, err, "a snapshot that is there already is no error")
	require.Equal(t, []string{"0-2"}, names())

	require.NoError(t, d.Remove(f.Metadata))
	n.block(write{key: "d", value: "4"})
	n.take(minChunkBytes)
	_, err = d.Adopt(stage(), 1, nil)
	require.ErrorIs(t, err, ErrStale)
	require.ErrorContains(t, err, "it is of height 2, and there are 1 newer ones, of which 1 are kept")
	require.Equal(t, []string{"0-3"}, names())
}
