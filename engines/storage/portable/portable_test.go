package portable

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/durable"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		flag.Set("rapid.checks", "15")
	}
	goleak.VerifyTestMain(m)
}

var genesis = time.Unix(1_700_000_000, 0)

func chainStarted() *logv1.ChainStarted {
	p := chain.DefaultParams()
	p.WindowNs = int64(20 * time.Second)
	return &logv1.ChainStarted{ChainId: "orchard", InitialHeight: 1, GenesisTimeNs: genesis.UnixNano(), Params: p}
}

type tT interface {
	require.TestingT
	Helper()
}

// node is the state of one node, with its own disk.
type node struct {
	t     tT
	fs    vfs.FS
	db    *storage.DB
	index uint64
}

func newNode(t tT, fs vfs.FS) *node {
	t.Helper()
	n := &node{t: t, fs: fs}
	n.open()
	n.index = 1
	require.NoError(t, n.db.StartChain(1, chainStarted()))
	return n
}

func (n *node) open() {
	var err error
	n.db, err = storage.Open("state", storage.Options{FS: n.fs, MemTableBytes: 1 << 20, CacheBytes: 1 << 20})
	require.NoError(n.t, err)
}

// write is what one transaction of a test does.
type write struct {
	key, value string
	del        bool
}

// block commits one block, with a transaction for each write, a second after the block before.
func (n *node) block(writes ...write) {
	n.t.Helper()
	at := n.db.State()
	b := chain.Block{ChainID: at.ChainID, Height: at.Next(), Time: at.Time.Add(time.Second)}

	for i := range writes {
		raw, err := chain.Tx{Backend: "kv", Nonce: fmt.Appendf(nil, "%d-%d", b.Height, i),
			ValidUntil: b.Time.Add(10 * time.Second)}.Encode()
		require.NoError(n.t, err)
		b.Txs = append(b.Txs, raw)
	}

	b.Hash = b.ContentHash()
	_, err := n.db.Begin(b)
	require.NoError(n.t, err)

	for i, w := range writes {
		v := chain.Version{Height: b.Height, Index: uint32(i)}
		c := &logv1.Change{Version: v.Proto(), Key: []byte(w.key), Value: []byte(w.value), Delete: w.del}
		require.NoError(n.t, n.db.Finish(v, []*logv1.Change{c},
			&logv1.TxResult{Data: []byte(w.value), Log: fmt.Sprint("text of ", n.fs)}))
	}

	s, err := n.db.Seal()
	require.NoError(n.t, err)
	n.index++
	require.NoError(n.t, n.db.Commit(n.index, &logv1.BlockCommitted{
		ChainId: b.ChainID, Height: b.Height, BlockHash: b.Hash, TimeNs: b.Time.UnixNano(), Results: s.Results,
		Changes: s.Changes, AppHash: s.AppHash,
	}))
}

func (n *node) dir() Dir { return Dir{FS: n.fs, Path: "peers"} }

func (n *node) take(chunk uint32) Metadata {
	n.t.Helper()
	p, err := n.db.Pin()
	require.NoError(n.t, err)
	defer p.Close()
	require.NoError(n.t, n.dir().Settle())
	m, err := n.dir().Take(context.Background(), p, Taking{ChunkBytes: chunk})
	require.NoError(n.t, err)
	return m
}

// target returns the Target of a joining node: the facts that it knows by itself and from its
// consensus.
func (n *node) target(fs vfs.FS) Target {
	s := n.db.State()
	return Target{FS: fs, Dir: "data/import", Chain: chainStarted(), AppHash: s.AppHash, BlockHash: s.BlockHash,
		Time: s.Time}
}

func drawBlock(t *rapid.T) []write {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) write {
		return write{
			key: rapid.StringMatching(`[a-c]{1,3}`).Draw(t, "key"), value: rapid.StringN(0, 60, 200).Draw(t, "value"),
			del: rapid.IntRange(0, 3).Draw(t, "del") == 0,
		}
	}), 0, 8).Draw(t, "block")
}

// The same state gives the same snapshot, byte for byte, whatever else its node did: pruned,
// restarted, took other snapshots, or began with a snapshot itself. The imported state continues
// like the exported one.
func TestSnapshotsOfOneHeightAreTheSameOnEveryNode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := newNode(t, vfs.NewMem()), newNode(t, vfs.NewMem())
		defer func() { require.NoError(t, errors.Join(a.db.Close(), b.db.Close())) }()

		chunk := uint32(rapid.IntRange(minChunkBytes, 2000).Draw(t, "chunk"))

		for range rapid.IntRange(1, 8).Draw(t, "blocks") {
			w := drawBlock(t)
			a.block(w...)
			b.block(w...)

			switch h := b.db.State().Height; rapid.IntRange(0, 5).Draw(t, "history of b") {
			case 0:
				require.NoError(t, b.db.Prune(context.Background(), h))

			case 1:
				require.NoError(t, b.db.Close())
				b.open()

			case 2:
				b.take(chunk)

			case 3: // b loses its state and joins again
				m := a.take(chunk)
				require.NoError(t, b.db.Close())
				b = join(t, a, m)
			}
		}

		ma, mb := a.take(chunk), b.take(chunk)
		require.Equal(t, ma, mb)
		require.Equal(t, ma.Hash(), mb.Hash())

		for i := range ma.Chunks {
			x, err := a.dir().Chunk(ma, uint32(i))
			require.NoError(t, err)
			y, err := b.dir().Chunk(mb, uint32(i))
			require.NoError(t, err)
			require.Equal(t, x, y)
		}

		c := join(t, a, ma)
		defer func() { require.NoError(t, c.db.Close()) }()

		require.Equal(t, a.db.Root(), c.db.Root())

		for range 3 {
			w := drawBlock(t)
			a.block(w...)
			c.block(w...)
			require.Equal(t, a.db.State().AppHash, c.db.State().AppHash)
		}

		require.NoError(t, c.db.VerifyScan(context.Background(), nil))
	})
}

// join returns a node that begins with a snapshot of another node.
func join(t tT, from *node, m Metadata) *node {
	to := from.target(vfs.NewMem())
	again, err := Decode(m.Encode())
	require.NoError(t, err)
	require.Equal(t, m.Encode(), again.Encode())
	i, err := NewImport(again, to)
	require.NoError(t, err)

	for k := range m.Chunks {
		c, err := from.dir().Chunk(m, uint32(k))
		require.NoError(t, err)
		require.NoError(t, i.Apply(uint32(k), c))
	}

	require.NoError(t, i.Finish())
	n := &node{t: t, fs: to.FS, index: from.index}
	require.NoError(t, to.FS.Rename(to.Dir, "state"))
	n.open()
	require.NoError(t, n.db.VerifyScan(context.Background(), nil))
	require.NoError(t, n.db.Adopt([16]byte{7}, from.index))
	s, w := n.db.State(), from.db.State()
	require.Equal(t, w.AppHash, s.AppHash)
	require.Equal(t, w.Height, s.Height)
	require.True(t, w.Time.Equal(s.Time))

	return n
}

// full returns a state of some hundred keys, and a snapshot of it in many chunks.
func full(t *testing.T) (*node, Metadata, [][]byte) {
	t.Helper()
	n := newNode(t, vfs.NewMem())
	t.Cleanup(func() { n.db.Close() })

	for i := range 20 {
		var w []write
		for k := range 20 {
			w = append(w, write{key: fmt.Sprintf("key-%d-%d", k, i%10), value: fmt.Sprintf("value %d", i)})
		}
		n.block(w...)
	}

	m := n.take(1000)
	var chunks [][]byte

	for i := range m.Chunks {
		c, err := n.dir().Chunk(m, uint32(i))
		require.NoError(t, err)
		chunks = append(chunks, c)
	}

	require.Greater(t, len(chunks), 10)

	return n, m, chunks
}

func TestAKeyIsReadFromTheHeightOfItsSnapshotOn(t *testing.T) {
	n, m, _ := full(t)
	c := join(t, n, m)
	defer c.db.Close()

	v, found, _, err := c.db.Get([]byte("key-3-3"), m.Height)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, "value 13", string(v))
	_, _, _, err = c.db.Get([]byte("key-3-3"), m.Height-1)
	require.ErrorIs(t, err, storage.ErrPruned)
	c.block(write{key: "key-3-3", value: "new"})
	v, _, _, err = c.db.Get([]byte("key-3-3"), m.Height)
	require.NoError(t, err)
	require.Equal(t, "value 13", string(v), "what is overwritten can still be read at its height")
}

// A snapshot holds what is needed to apply no transaction twice: an id that is remembered there is
// refused here.
func TestAnAppliedTransactionIsRefusedAfterJoining(t *testing.T) {
	n, m, _ := full(t)
	c := join(t, n, m)
	defer c.db.Close()

	at := n.db.State()
	raw, err := chain.Tx{Backend: "kv", Nonce: fmt.Appendf(nil, "%d-0", at.Height),
		ValidUntil: at.Time.Add(10 * time.Second)}.Encode()
	require.NoError(t, err)

	for _, db := range []*storage.DB{n.db, c.db} {
		refused, err := db.Begin(chain.Block{ChainID: at.ChainID, Height: at.Next(), Time: at.Time.Add(time.Second),
			Txs: [][]byte{raw}})
		require.NoError(t, err)
		require.Equal(t, logv1.Code_CODE_REPEATED, refused[0].GetCode())
	}
}

func TestBadChunksAreToldFromBadSnapshots(t *testing.T) {
	n, m, chunks := full(t)
	fs := vfs.NewMem()
	begin := func(m Metadata) *Import {
		i, err := NewImport(m, n.target(fs))
		require.NoError(t, err)
		return i
	}
	i := begin(m)
	require.ErrorIs(t, i.Apply(1, chunks[1]), ErrOrder, "from further ahead")
	require.ErrorIs(t, i.Apply(0, nil), ErrChunk, "missing")
	require.ErrorIs(t, i.Apply(0, chunks[1]), ErrChunk, "another one")
	require.ErrorIs(t, i.Apply(0, append(append([]byte(nil), chunks[0]...), 0)), ErrChunk, "too long")
	require.ErrorIs(t, i.Apply(0, chunks[0][:999]), ErrChunk, "too short")
	flipped := append([]byte(nil), chunks[0]...)
	flipped[500] ^= 1
	require.ErrorIs(t, i.Apply(0, flipped), ErrChunk, "damaged")
	require.ErrorIs(t, i.Apply(uint32(len(chunks)), chunks[0]), ErrSnapshot, "a place that there is not")
	require.NoError(t, i.Apply(0, chunks[0]))
	require.NoError(t, i.Apply(0, chunks[0]), "repeated")
	require.ErrorIs(t, i.Finish(), ErrOrder, "not all have come")
	for k := 1; k < len(chunks); k++ {
		require.NoError(t, i.Apply(uint32(k), chunks[k]))
	}

	require.NoError(t, i.Finish())
	require.NoError(t, i.Abort())

	// Snapshots that are consistent but not of this state: their forger listed the right hashes.
	for what, forge := range map[string]func(m *Metadata, stream []byte) []byte{
		"a value is another": func(_ *Metadata, s []byte) []byte { s[40] ^= 1; return s },
		"a key is missing": func(m *Metadata, s []byte) []byte {
			m.Keys--
			return append(s[:14], s[14+1+int(s[14])+1+7:]...)
		},
		"it ends too soon":  func(_ *Metadata, s []byte) []byte { return s[:len(s)-5] },
		"it goes on":        func(_ *Metadata, s []byte) []byte { return append(s, 1, 'k', 1, 'v') },
		"fewer ids":         func(m *Metadata, s []byte) []byte { m.IDs--; return s },
		"more ids":          func(m *Metadata, s []byte) []byte { m.IDs++; return s },
		"nothing at all":    func(*Metadata, []byte) []byte { return []byte(preamble) },
		"another beginning": func(_ *Metadata, s []byte) []byte { s[0]++; return s },
		"a key of enormous size": func(_ *Metadata, s []byte) []byte {
			return append(s[:14], 0xff, 0xff, 0xff, 0xff, 0xff, 1)
		},
		"a number without end": func(_ *Metadata, s []byte) []byte {
			return append(s[:14], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"...)
		},
		"order of keys": func(_ *Metadata, s []byte) []byte { s[14+1+4] = 'z'; return s },
	} {
		var stream []byte
		for _, c := range chunks {
			stream = append(stream, c...)
		}

		forged := m
		stream = forge(&forged, stream)
		i := begin(reseal(&forged, stream))
		err := applyAll(i, stream)
		require.NoError(t, i.Abort(), what)
		require.ErrorIs(t, err, ErrSnapshot, what)
		require.NotErrorIs(t, err, ErrChunk, what)
	}

	for what, change := range map[string]func(*Metadata){
		"chain":    func(m *Metadata) { m.ChainID = "other" },
		"period":   func(m *Metadata) { m.Period = 1 },
		"app hash": func(m *Metadata) { m.AppHash = make([]byte, 32) },
		"clock":    func(m *Metadata) { m.Clock = m.Clock.Add(1) },
		"past":     func(m *Metadata) { m.Clock = m.Clock.Add(-1) },
	} {
		forged := m
		change(&forged)
		_, err := NewImport(forged, n.target(fs))
		require.ErrorIs(t, err, ErrSnapshot, what)
	}
}

// reseal lists the hashes of the chunks of a changed stream.
func reseal(m *Metadata, stream []byte) Metadata {
	m.Bytes, m.Chunks = uint64(len(stream)), nil
	for len(stream) > 0 {
		c := stream[:min(int(m.ChunkBytes), len(stream))]
		m.Chunks, stream = append(m.Chunks, sha256.Sum256(c)), stream[len(c):]
	}
	return *m
}

func applyAll(i *Import, stream []byte) error {
	for k := range i.Chunks {
		c := stream[:min(int(i.ChunkBytes), len(stream))]
		stream = stream[len(c):]
		if err := i.Apply(uint32(k), c); err != nil {
			return err
		}
	}
	return i.Finish()
}

func TestMetadataThatAPeerMadeUpIsRefused(t *testing.T) {
	_, m, _ := full(t)
	good := m.Encode()
	for n := range good {
		_, err := Decode(good[:n])
		require.ErrorIs(t, err, ErrSnapshot, "cut at %d", n)
	}

	_, err := Decode(append(append([]byte(nil), good...), 0))
	require.ErrorIs(t, err, ErrSnapshot)
	other := append([]byte(nil), good...)
	other[len(magic)+3] = 2
	_, err = Decode(other)
	require.ErrorIs(t, err, ErrFormat)
	_, err = Decode(make([]byte, maxMetadata+1))
	require.ErrorIs(t, err, ErrSnapshot)

	for what, change := range map[string]func(*Metadata){
		"no chain":        func(m *Metadata) { m.ChainID = "" },
		"no height":       func(m *Metadata) { m.Height = 0 },
		"height":          func(m *Metadata) { m.Height = 1 << 63 },
		"chunks too big":  func(m *Metadata) { m.ChunkBytes = maxChunkBytes + 1 },
		"chunks of none":  func(m *Metadata) { m.ChunkBytes = 0 },
		"bytes":           func(m *Metadata) { m.Bytes = 1 << 63 },
		"fewer bytes":     func(m *Metadata) { m.Bytes -= uint64(m.ChunkBytes) },
		"no chunk at all": func(m *Metadata) { m.Bytes, m.Chunks = 0, nil },
	} {
		bad := m
		change(&bad)
		_, err := Decode(bad.Encode())
		require.ErrorIs(t, err, ErrSnapshot, what)
	}
}

func TestADirectoryKeepsTheNewest(t *testing.T) {
	n := newNode(t, vfs.NewMem())
	defer n.db.Close()

	for range 4 {
		n.block(write{key: "k", value: fmt.Sprint(n.index)})
		n.take(0)
	}

	n.take(0) // again at the same height
	list, err := n.dir().Keep(1, func(m Metadata) bool { return m.Height == 2 || m.Height == 3 })
	require.NoError(t, err)
	require.Len(t, list, 3, "1 goes; 2 and 3 are in use")
	list, err = n.dir().Keep(2, nil)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.EqualValues(t, 3, list[0].Height)
	require.EqualValues(t, 4, list[1].Height)
	_, err = n.dir().Chunk(list[1], 1)
	require.ErrorIs(t, err, ErrNone)
	require.NoError(t, n.dir().Remove(list[1]))
	_, err = n.dir().Chunk(list[1], 0)
	require.ErrorIs(t, err, ErrNone)

	// A chunk that is not as it was written is not served.
	path := "peers/0-3/00000000.chunk"
	require.NoError(t, durable.On(n.fs).Write(path, []byte("something else"), 0o666))
	_, err = n.dir().Chunk(list[0], 0)
	require.ErrorIs(t, err, ErrChunk)
}

// Closing the state does not wait for a snapshot. The snapshot ends and leaves nothing behind.
func TestASnapshotEndsWithItsState(t *testing.T) {
	n, _, _ := full(t)
	p, err := n.db.Pin()
	require.NoError(t, err)
	d := Dir{FS: n.fs, Path: "more"}
	require.NoError(t, d.Settle())
	_, err = d.Take(t.Context(), p, Taking{Pace: func(context.Context) error { return n.db.Close() }})
	require.ErrorIs(t, err, storage.ErrClosed)
	require.NoError(t, p.Close())
	names, err := n.fs.List("more")
	require.NoError(t, err)
	require.Empty(t, names)

	n.open()
	p, err = n.db.Pin()
	require.NoError(t, err)
	stopped := errors.New("stopped")
	_, err = d.Take(t.Context(), p, Taking{Pace: func(context.Context) error { return stopped }})
	require.ErrorIs(t, err, stopped)
	require.NoError(t, p.Close())
}
