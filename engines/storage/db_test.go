package storage

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// I10: a state that this version cannot read is refused, and the error differs from that of a state
// in use.
func TestOpenRefuses(t *testing.T) {
	t.Run("in use", func(t *testing.T) {
		for name, fs := range map[string]vfs.FS{"memory": vfs.NewMem(), "disk": vfs.Default} {
			dir := dir
			if name == "disk" {
				dir = t.TempDir()
			}

			d, err := Open(dir, Options{FS: fs})
			require.NoError(t, err)
			_, err = Open(dir, Options{FS: fs})
			require.ErrorIs(t, err, ErrInUse, name)
			require.NoError(t, d.Close())
			d, err = Open(dir, Options{FS: fs})
			require.NoError(t, err, "a successor may open once it is closed")
			require.NoError(t, d.Close())
		}
	})

	t.Run("not writable", func(t *testing.T) {
		if os.Getuid() == 0 {
			t.Log("root may write anywhere; a file in the place of the directory stands for it")
		}

		file := t.TempDir() + "/file"
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		_, err := Open(file, Options{})
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrInUse)
		require.ErrorContains(t, err, file)
	})

	with := func(set func(*pebble.DB)) error {
		fs := vfs.NewMem()
		p, err := pebble.Open(dir, &pebble.Options{FS: fs})
		require.NoError(t, err)
		set(p)
		require.NoError(t, p.Close())
		d, err := Open(dir, Options{FS: fs})
		if err == nil {
			require.NoError(t, d.Close())
		}

		return err
	}
	require.NoError(t, with(func(*pebble.DB) {}), "an empty database is what a crash right after creation leaves")

	err := with(func(p *pebble.DB) { require.NoError(t, p.Set([]byte("users"), []byte("1"), pebble.Sync)) })
	require.ErrorIs(t, err, ErrFormat)
	require.ErrorContains(t, err, "another program")

	err = with(func(p *pebble.DB) { require.NoError(t, p.Set(metaFormat, []byte("coppice state 2"), pebble.Sync)) })
	require.ErrorIs(t, err, ErrFormat)
	require.ErrorContains(t, err, `"coppice state 2", want "coppice state 1"`)

	for what, set := range map[string]func(p *pebble.DB) error{
		"state record": func(p *pebble.DB) error { return p.Set(metaState, []byte("{"), pebble.Sync) },
		"only one of": func(p *pebble.DB) error {
			return p.Set(metaState, record{ChainID: "x"}.encode(), pebble.Sync)
		},
		"accumulator": func(p *pebble.DB) error { return p.Set(metaAccumulator, []byte("short"), pebble.Sync) },
		"prune mark":  func(p *pebble.DB) error { return p.Set(metaPruned, []byte("short"), pebble.Sync) },
	} {
		err = with(func(p *pebble.DB) {
			require.NoError(t, p.Set(metaFormat, []byte("coppice state 1"), pebble.Sync))
			require.NoError(t, set(p))
		})
		require.ErrorIs(t, err, ErrDamaged, what)
		require.ErrorContains(t, err, what)
	}
}

func TestStartChain(t *testing.T) {
	d := open(t, vfs.NewMem())
	defer func() { require.NoError(t, d.Close()) }()

	require.False(t, d.State().Started())
	_, err := d.Begin(chain.Block{ChainID: "test-1", Period: 1, Height: 1, Time: genesis})
	require.ErrorIs(t, err, ErrChain)
	require.ErrorContains(t, err, "no chain has started")

	for what, spoil := range map[string]func(*logv1.ChainStarted){
		"chain_id":     func(c *logv1.ChainStarted) { c.ChainId = "" },
		"params":       func(c *logv1.ChainStarted) { c.Params = nil },
		"window_ns":    func(c *logv1.ChainStarted) { c.Params.WindowNs = 0 },
		"max_tx_bytes": func(c *logv1.ChainStarted) { c.Params.MaxTxBytes = 0 },
	} {
		c := chainStarted(1)
		spoil(c)
		err := d.StartChain(1, c)
		require.ErrorIs(t, err, ErrChain, what)
		require.ErrorContains(t, err, what)
	}

	c := chainStarted(1)
	c.AppHash = []byte("another")
	require.ErrorIs(t, d.StartChain(1, c), ErrAppHash)

	c.AppHash = d.RootAt(1).AppHash
	require.NoError(t, d.StartChain(1, c))
	require.Equal(t, uint64(1), d.State().Index)
	require.Equal(t, c.AppHash, d.State().AppHash)
	require.True(t, genesis.Equal(d.State().Time))
	require.NoError(t, d.StartChain(7, c), "InitChain may repeat")
	require.Equal(t, uint64(1), d.State().Index)

	c = chainStarted(1)
	c.InitialHeight = 5
	require.NoError(t, d.StartChain(2, c), "before the first block another genesis may take its place")
	require.Equal(t, uint64(5), d.State().Next())
	d.testCommit(t, 3, put("a", "1"))

	require.NoError(t, d.StartChain(4, c), "the same record again")
	require.NoError(t, d.StartChain(3, chainStarted(1)), "a record that is applied already")
	err = d.StartChain(4, chainStarted(1))
	require.ErrorIs(t, err, ErrChain)
	require.ErrorContains(t, err, "height 5")

	// The next period: keys stay, heights begin anew, the app hash differs.
	before := d.State()
	_, err = d.Begin(block(d, genesis))
	require.NoError(t, err)
	require.NoError(t, d.StartChain(5, chainStarted(3)))
	_, err = d.Seal()
	require.ErrorIs(t, err, errNotStaged, "what was staged for the old period is dropped")
	require.Equal(t, uint64(1), d.State().Next())
	require.NotEqual(t, before.AppHash, d.State().AppHash)
	require.Equal(t, "1", d.testGet(t, "a", 0))
	_, _, _, err = d.Get([]byte("a"), 5)
	require.ErrorIs(t, err, ErrNotCommitted)
	require.ErrorIs(t, d.StartChain(6, chainStarted(2)), ErrChain, "periods do not go back")
	d.testCommit(t, 7, del("a"))
	require.Equal(t, "none", d.testGet(t, "a", 1))
	require.NoError(t, d.VerifyScan(context.Background(), nil))
}

// The block and the committed state alone decide what Begin refuses: the same at each delivery and
// on each node (I2).
func TestRefusals(t *testing.T) {
	d := started(t)
	now := genesis.Add(time.Hour)
	bytesOf := func(tx chain.Tx) []byte {
		b, err := tx.Encode()
		require.NoError(t, err)
		return b
	}
	first := tx(t, 1, now.Add(window))
	plain := []byte("key=value")
	envelope := bytesOf(chain.Tx{Backend: chain.PlainBackend, Nonce: []byte{0}, Body: plain})
	envelope = append(append([]byte{}, envelope[:2+len(chain.PlainBackend)]...),
		append([]byte{0}, envelope[4+len(chain.PlainBackend):]...)...)

	b := block(d, now,
		first,
		first,
		tx(t, 2, now),
		tx(t, 3, now.Add(-time.Millisecond)),
		tx(t, 4, now.Add(window+time.Millisecond)),
		[]byte{1},
		plain,
		plain,
		make([]byte, 1001),
		nil,
		tx(t, 3, now.Add(-time.Millisecond)),
		envelope,
	)

	want := []logv1.Code{
		logv1.Code_CODE_OK,
		logv1.Code_CODE_REPEATED,
		logv1.Code_CODE_OK,
		logv1.Code_CODE_EXPIRED,
		logv1.Code_CODE_TOO_EARLY,
		logv1.Code_CODE_MALFORMED,
		logv1.Code_CODE_OK,
		logv1.Code_CODE_REPEATED,
		logv1.Code_CODE_LIMIT,
		logv1.Code_CODE_MALFORMED,
		logv1.Code_CODE_EXPIRED,
		logv1.Code_CODE_MALFORMED,
	}
	refused, err := d.Begin(b)
	require.NoError(t, err)
	require.Len(t, refused, len(want))

	for i, r := range refused {
		require.Equal(t, want[i] == logv1.Code_CODE_OK, r == nil, "place %d: %v", i, r)
		if r != nil {
			require.Equal(t, want[i], r.Code, "place %d", i)
			id := chain.HashTx(b.Txs[i])
			require.Equal(t, id[:], r.Id)
			require.NotEmpty(t, r.Log)
			require.Zero(t, r.ValidUntilMs, "a refused transaction is not remembered")
		}
	}

	again, err := d.Begin(b)
	require.NoError(t, err)
	require.Equal(t, refused, again)

	finish := func(places ...uint32) chain.Staged {
		for _, i := range places {
			v := chain.Version{Period: 1, Height: d.State().Next(), Index: i}
			require.NoError(t, d.Finish(v, nil, &logv1.TxResult{Code: logv1.Code_CODE_FAILED}))
		}
		s, err := d.Seal()
		require.NoError(t, err)
		return s
	}
	require.NoError(t, d.Commit(2, committed(finish(6, 2, 0))))

	// In the next block, the applied transactions are repeated until their time has passed. Then a
	// plain one may come again, and the others are expired.
	codes := func(at time.Time, txs ...[]byte) (codes []logv1.Code) {
		refused, err := d.Begin(block(d, at, txs...))
		require.NoError(t, err)
		for _, r := range refused {
			codes = append(codes, r.GetCode())
		}
		return codes
	}
	rep, exp, ok := logv1.Code_CODE_REPEATED, logv1.Code_CODE_EXPIRED, logv1.Code_CODE_OK
	require.Equal(t, []logv1.Code{rep, exp, rep}, codes(now.Add(time.Second), first, tx(t, 2, now), plain))
	require.Equal(t, []logv1.Code{rep, rep}, codes(now.Add(window), first, plain))
	require.Equal(t, []logv1.Code{exp, ok}, codes(now.Add(window+1), first, plain))
	_, found, err := d.Result(chain.HashTx(plain))
	require.NoError(t, err)
	require.True(t, found, "an id is forgotten by a commit and not before")
	require.NoError(t, d.Commit(3, committed(finish(1))))
	r, found, err := d.Result(chain.HashTx(plain))
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, uint64(2), r.Version.Height)
	_, found, err = d.Result(chain.HashTx(first))
	require.NoError(t, err)
	require.False(t, found)

	// A block time that goes back does not bring back a forgotten transaction.
	require.Equal(t, []logv1.Code{exp, rep}, codes(now, first, plain))
	require.NoError(t, d.VerifyScan(context.Background(), nil))
}

func TestBeginRefusesOtherBlocks(t *testing.T) {
	d := started(t)
	for what, c := range map[string]struct {
		spoil func(*chain.Block)
		is    error
	}{
		"is test-1":      {func(b *chain.Block) { b.ChainID = "other" }, ErrChain},
		"period 1":       {func(b *chain.Block) { b.Period = 2 }, ErrChain},
		"want height 1":  {func(b *chain.Block) { b.Height = 2 }, errHeight},
		"want the years": {func(b *chain.Block) { b.Time = time.Time{} }, nil},
	} {
		b := block(d, genesis)
		c.spoil(&b)
		_, err := d.Begin(b)
		require.ErrorContains(t, err, what)
		if c.is != nil {
			require.ErrorIs(t, err, c.is)
		}
	}
}

// A write at a version waits for the one before; nothing staged is visible outside of the block.
func TestVersionsTakeEffectInOrder(t *testing.T) {
	d := started(t)
	d.testCommit(t, 2, put("a", "committed"), put("gone", "committed"))
	until := genesis.Add(window)
	b := block(d, genesis.Add(3*time.Second), tx(t, 10, until), tx(t, 11, until), []byte{1}, tx(t, 12, until))
	_, err := d.Begin(b)
	require.NoError(t, err)
	v := func(i uint32) chain.Version { return chain.Version{Period: 1, Height: 2, Index: i} }
	read := func(i uint32, key string) string {
		value, found, err := d.Read(v(i), []byte(key))
		if err != nil {
			require.ErrorIs(t, err, errNotReady)
			return "not ready"
		}

		if !found {
			return "none"
		}
		return string(value)
	}
	ok := func() *logv1.TxResult { return new(logv1.TxResult) }

	require.Equal(t, "committed", read(0, "a"))
	require.Equal(t, "not ready", read(1, "a"))
	require.NoError(t, d.Finish(v(1), at(v(1), put("a", "by 1"), put("gone", "by 1"), del("gone")), ok()))
	require.Equal(t, "committed", read(0, "a"), "version 1 came early and is held")
	require.Equal(t, "not ready", read(3, "a"))
	require.NoError(t, d.Finish(v(0), at(v(0), put("a", "by 0"), put("b", "")), ok()))
	require.Equal(t, "by 1", read(3, "a"))
	require.Equal(t, "", read(3, "b"))
	require.Equal(t, "none", read(3, "gone"))
	require.Equal(t, "committed", d.testGet(t, "a", 0))
	require.Equal(t, "none", d.testGet(t, "b", 0))
	turn, all, staged := d.nextTurn()
	require.Equal(t, []any{uint32(3), false, true}, []any{turn, all, staged}, "a refused place is no hindrance")

	_, err = d.Seal()
	require.ErrorIs(t, err, errNotReady)

	for what, err := range map[string]error{
		"it has finished": d.Finish(v(1), nil, ok()),
		"was refused":     d.Finish(v(2), nil, ok()),
		"being executed":  d.Finish(v(4), nil, ok()),
	} {
		require.ErrorIs(t, err, errNotStaged)
		require.ErrorContains(t, err, what)
	}

	for what, err := range map[string]error{
		"without a result": d.Finish(v(3), nil, nil),
		"of version 0/0/0": d.Finish(v(3), []*logv1.Change{put("x", "")}, ok()),
		"of version 1/2/1": d.Finish(v(3), at(v(1), put("x", "")), ok()),
		"0 bytes":          d.Finish(v(3), at(v(3), put("", "")), ok()),
		"4097 bytes":       d.Finish(v(3), at(v(3), put(string(make([]byte, 4097)), "")), ok()),
		"CODE_FAILED":      d.Finish(v(3), at(v(3), put("x", "")), &logv1.TxResult{Code: logv1.Code_CODE_FAILED}),
		"transaction 00":   d.Finish(v(3), nil, &logv1.TxResult{Id: []byte{0}}),
	} {
		require.ErrorContains(t, err, what)
	}

	require.NoError(t, d.Finish(v(3), nil, ok()))
	_, _, err = d.Read(v(3), []byte("a"))
	require.ErrorIs(t, err, errNotStaged, "a version that has finished reads no more")

	s, err := d.Seal()
	require.NoError(t, err)
	again, err := d.Seal()
	require.NoError(t, err)
	require.Equal(t, s, again)
	require.Len(t, s.Changes, 5)
	require.Len(t, s.Results, 4)
	require.Equal(t, "committed", d.testGet(t, "a", 0), "sealed is not committed")

	other := committed(s)
	other.BlockHash = []byte("other")
	require.ErrorIs(t, d.Commit(3, other), errNotStaged)
	other = committed(s)
	other.AppHash = []byte("other")
	require.ErrorIs(t, d.Commit(3, other), ErrAppHash)
	require.ErrorContains(t, d.Commit(2, committed(s)), "not past the applied one, 2")
	require.NoError(t, d.Commit(3, committed(s), local{"pool floor", []byte("9")}))
	require.ErrorIs(t, d.Commit(4, committed(s)), errNotStaged)

	require.Equal(t, "by 1", d.testGet(t, "a", 0))
	require.Equal(t, "committed", d.testGet(t, "a", 1))
	require.Equal(t, "none", d.testGet(t, "gone", 2))
	require.Equal(t, "committed", d.testGet(t, "gone", 1))
	local, found, err := d.GetLocal("pool floor")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, "9", string(local))
}

// I3: node-local values are not in the app hash.
func TestLocalsAreNotReplicated(t *testing.T) {
	d := started(t)
	before := d.State().AppHash
	require.NoError(t, d.PutLocal("name", []byte("value")))
	require.NoError(t, d.VerifyScan(context.Background(), nil))
	require.Equal(t, before, d.RootAt(1).AppHash)
	_, found, err := d.GetLocal("nam")
	require.NoError(t, err)
	require.False(t, found)
}

// I4: a record that is not the next one, or does not lead to its own app hash, is refused.
func TestRedoRefuses(t *testing.T) {
	d := started(t)
	rec := d.testCommit(t, 5, put("a", "1"))
	require.NoError(t, d.Redo(5, rec), "a record at or below the applied index changes nothing")
	require.NoError(t, d.Redo(4, &logv1.BlockCommitted{Height: 99}))
	require.ErrorIs(t, d.Redo(6, rec), errHeight)

	next := &logv1.BlockCommitted{ChainId: "test-1", Period: 1, Height: 2, AppHash: rec.AppHash, TimeNs: rec.TimeNs}
	gap := proto.CloneOf(next)
	gap.Height = 3
	err := d.Redo(6, gap)
	require.ErrorIs(t, err, errHeight)
	require.ErrorContains(t, err, "want height 2")
	next.Changes = at(chain.Version{Period: 1, Height: 2}, put("a", "2"))
	err = d.Redo(6, next)
	require.ErrorIs(t, err, ErrAppHash)
	require.ErrorContains(t, err, "record 6")
	require.Equal(t, "1", d.testGet(t, "a", 0), "a refused record leaves no trace")
	next.Changes = at(chain.Version{Period: 1, Height: 2}, put("a", "1"))
	require.NoError(t, d.Redo(6, next), "writing the same value is no change of the state")
	require.Equal(t, uint64(6), d.State().Index)
	require.NoError(t, d.VerifyScan(context.Background(), nil))
}

// Keys are arbitrary bytes: prefixes of each other, zeros, 0xff.
func TestKeysAreArbitraryBytes(t *testing.T) {
	d := started(t)
	keys := []string{"\x00", "\x00\x00", "a", "a\x00", "a\x00\xff", "a\xff", "a\xff\xff", "b", "\xff", "\xff\xff",
		string(make([]byte, chain.MaxKeyBytes))}

	for h := range 3 {
		var changes []*logv1.Change
		for i, k := range keys {
			changes = append(changes, put(k, fmt.Sprint(i, " at ", h+1)))
		}
		d.testCommit(t, uint64(2+h), changes...)
	}

	for h := range uint64(3) {
		for i, k := range keys {
			require.Equal(t, fmt.Sprint(i, " at ", h+1), d.testGet(t, k, h+1), "key %q", clip([]byte(k)))
		}
	}

	require.Equal(t, "none", d.testGet(t, "a\x01", 2))

	s, err := d.reader()
	require.NoError(t, err)
	defer s.Close()

	prefixed := func(prefix string) (got []string) {
		for e, err := range s.withPrefix([]byte(prefix)) {
			require.NoError(t, err)
			require.Equal(t, uint64(3), e.Version.Height)
			got = append(got, string(e.Key))
		}
		return got
	}
	require.Equal(t, []string{"a", "a\x00", "a\x00\xff", "a\xff", "a\xff\xff"}, prefixed("a"))
	require.Equal(t, []string{"\xff", "\xff\xff"}, prefixed("\xff"))
	require.Len(t, prefixed(""), len(keys))
	d.testCommit(t, 9, del("a"))
	require.Equal(t, []string{"a", "a\x00", "a\x00\xff", "a\xff", "a\xff\xff"}, prefixed("a"),
		"a snapshot stays at its height")
	n := 0

	for r, err := range s.allIDs() {
		require.NoError(t, err)
		require.Equal(t, "done", string(r.Data))
		n++
	}

	require.Equal(t, 3, n)
}

func TestHeights(t *testing.T) {
	d := started(t)
	_, _, _, err := d.Get([]byte("a"), 1)
	require.ErrorIs(t, err, ErrNotCommitted)
	require.ErrorContains(t, err, "no block yet")
	require.Equal(t, "none", d.testGet(t, "a", 0))

	recs := []*logv1.BlockCommitted{d.testCommit(t, 2, put("a", "1"), put("b", "1")),
		d.testCommit(t, 3, put("a", "2"), del("b")), d.testCommit(t, 4, put("b", "3"))}
	_, _, _, err = d.Get([]byte("a"), 4)
	require.ErrorIs(t, err, ErrNotCommitted)
	require.ErrorContains(t, err, "the latest is 3")
	_, _, height, err := d.Get([]byte("a"), 0)
	require.NoError(t, err)
	require.Equal(t, uint64(3), height)

	for i, rec := range recs {
		m, err := d.Block(uint64(i + 1))
		require.NoError(t, err)
		require.Equal(t, BlockMeta{Period: 1, Height: uint64(i + 1), Hash: rec.BlockHash,
			Time: time.Unix(0, rec.TimeNs), AppHash: rec.AppHash, Index: uint64(i + 2)}, m)
	}

	require.ErrorIs(t, d.Prune(context.Background(), 4), ErrNotCommitted)
	require.NoError(t, d.Prune(context.Background(), 2))
	_, _, _, err = d.Get([]byte("a"), 1)
	require.ErrorIs(t, err, ErrPruned)
	require.ErrorContains(t, err, "the oldest is 2")
	_, err = d.Block(1)
	require.ErrorIs(t, err, ErrPruned)
	require.Equal(t, []string{"2", "none", "2", "3"},
		[]string{d.testGet(t, "a", 2), d.testGet(t, "b", 2), d.testGet(t, "a", 3), d.testGet(t, "b", 3)})
	require.NoError(t, d.Prune(context.Background(), 1), "what is pruned stays so")
	require.NoError(t, d.Prune(context.Background(), 3))
	require.NoError(t, d.VerifyScan(context.Background(), nil))

	it, err := d.pdb.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceOlder}, UpperBound: []byte{spaceOlder + 1}})
	require.NoError(t, err)
	require.False(t, it.First(), "no older version is left: %q", it.Key())
	require.NoError(t, it.Close())
	st, err := d.Stat()
	require.NoError(t, err)
	require.Equal(t, uint64(3), st.OldestHeight)
	require.Equal(t, uint64(2), st.Keys)
	require.Equal(t, uint64(3), st.IDs)
}

// The durable applied index is never higher than what a crash leaves.
func TestDurableApplied(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d, err := Open(dir, Options{FS: fs})
	require.NoError(t, err)
	durable := func() uint64 {
		n, err := d.durableApplied()
		require.NoError(t, err)
		return n
	}
	require.NoError(t, d.StartChain(1, chainStarted(1)))
	d.testCommit(t, 2, put("a", "1"))
	require.Zero(t, durable())
	n, err := d.Flush()
	require.NoError(t, err)
	require.Equal(t, uint64(2), n)
	d.testCommit(t, 3, put("a", "2"))
	require.Equal(t, uint64(2), durable())

	crashed := open(t, fs.CrashClone(vfs.CrashCloneCfg{}))
	require.Equal(t, uint64(2), crashed.State().Index)
	require.Equal(t, "1", crashed.testGet(t, "a", 0))
	require.NoError(t, crashed.Close())

	require.NoError(t, d.Close(), "a close flushes")
	crashed = open(t, fs.CrashClone(vfs.CrashCloneCfg{}))
	require.Equal(t, uint64(3), crashed.State().Index)
	require.NoError(t, crashed.Close())
}

// Redo stays short even if blocks are small: a commit asks for a flush after FlushEvery records.
func TestFlushEvery(t *testing.T) {
	d, err := Open(dir, Options{FS: vfs.NewMem(), FlushEvery: 10})
	require.NoError(t, err)
	require.NoError(t, d.StartChain(1, chainStarted(1)))
	d.testCommit(t, 9, put("a", "1"))
	before := d.pdb.Metrics().Flush.Count
	d.testCommit(t, 10, put("a", "2"))
	require.Equal(t, uint64(10), d.flushed)
	n, err := d.Flush()
	require.NoError(t, err)
	require.Equal(t, uint64(10), n)
	require.Positive(t, d.pdb.Metrics().Flush.Count-before)
	require.NoError(t, d.Close())
}
