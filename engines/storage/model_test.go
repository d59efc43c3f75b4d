package storage

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/apphash"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// model is the state that the design describes, in a few maps: every version of every key, the
// remembered ids, and the log that led there.
type model struct {
	log      []proto.Message // record i+1; nil for a record of another kind
	period   uint64
	height   uint64
	clock    time.Time
	versions map[string][]version // oldest first
	ids      map[chain.TxID]*logv1.TxResult
	hashes   map[place][]byte
	pruned   place
}

type version struct {
	chain.Version
	value   string
	deleted bool
}

func (m *model) append(rec proto.Message) uint64 {
	m.log = append(m.log, rec)
	return uint64(len(m.log))
}

// read returns the value as of just before v.
func (m *model) read(key string, v chain.Version) string {
	vs := m.versions[key]
	for i := len(vs) - 1; i >= 0; i-- {
		if vs[i].Compare(v) < 0 {
			if vs[i].deleted {
				return "none"
			}
			return vs[i].value
		}
	}

	return "none"
}

// hash computes the app hash from nothing.
func (m *model) hash() []byte {
	h := apphash.NewHasher()
	var acc apphash.Accumulator

	for k := range m.versions {
		if v := m.read(k, chain.Version{Period: m.period + 1}); v != "none" {
			acc.Add(h.Key([]byte(k), []byte(v)))
		}
	}

	for _, r := range m.ids {
		acc.Add(h.ID(r))
	}

	return acc.Hash(m.period)
}

// refusal returns the code with which a transaction of a block at that time is refused, as the
// comment of DB.Begin says.
func (m *model) refusal(raw []byte, at time.Time, earlier map[chain.TxID]bool) (code logv1.Code, until int64) {
	if len(raw) > int(params().MaxTxBytes) {
		return logv1.Code_CODE_LIMIT, 0
	}
	tx, err := chain.DecodeTx(raw)
	if err != nil {
		return logv1.Code_CODE_MALFORMED, 0
	}
	if m.clock.After(at) {
		at = m.clock
	}

	valid := tx.ValidUntil
	if tx.Plain() {
		valid = at.Add(window).Truncate(time.Millisecond)
	}

	id := chain.HashTx(raw)
	applied, found := m.ids[id]

	switch {
	case valid.Before(at):
		return logv1.Code_CODE_EXPIRED, 0
	case valid.After(at.Add(window)):
		return logv1.Code_CODE_TOO_EARLY, 0
	case earlier[id] || found && !time.UnixMilli(applied.ValidUntilMs).Before(at):
		return logv1.Code_CODE_REPEATED, 0
	}

	return logv1.Code_CODE_OK, valid.UnixMilli()
}

// machine drives a DB on a disk that can crash, beside the model.
type machine struct {
	fs   *vfs.MemFS
	d    *DB
	m    *model
	txs  [][]byte
	next int // number of the next transaction

	// The sealed block whose commit is put off: its record, which the model has applied.
	late      *logv1.BlockCommitted
	lateIndex uint64
}

// settle commits the sealed block whose commit was put off.
func (s *machine) settle(t *rapid.T) {
	if rec := s.late; rec != nil {
		s.late = nil
		require.NoError(t, s.d.Commit(s.lateIndex, rec, local{"local", rec.BlockHash}))
	}
}

// maybeSettle settles at a moment that is drawn.
func (s *machine) maybeSettle(t *rapid.T) {
	if s.late != nil && rapid.IntRange(0, 3).Draw(t, "commit now") == 0 {
		s.settle(t)
	}
}

var modelKeys = []string{"\x00", "a", "a\x00", "ab", "b", "c", "d", "\xff", "\xff\xff"}

func (s *machine) openDB(t *rapid.T) {
	var err error
	s.d, err = Open(dir, Options{FS: s.fs, MemTableBytes: 1 << 20,
		recent: recentLimits{first: 1, largest: rapid.IntRange(1, 4).Draw(t, "largest"),
			filters: rapid.IntRange(1, 3).Draw(t, "filters")}})
	require.NoError(t, err)
}

// drawTx returns a new transaction or one that was seen before.
func (s *machine) drawTx(t *rapid.T, at time.Time) []byte {
	s.next++
	switch kind := rapid.IntRange(0, 9).Draw(t, "tx"); {
	case kind <= 1 && len(s.txs) > 0:
		return rapid.SampledFrom(s.txs).Draw(t, "again")

	case kind == 2:
		return fmt.Appendf(nil, "plain=%d", rapid.IntRange(0, 2).Draw(t, "plain"))

	case kind == 3:
		return rapid.SampledFrom([][]byte{nil, {1}, {1, 0}, make([]byte, 1001)}).Draw(t, "bad")

	default:
		until := at.Add(time.Duration(rapid.IntRange(-5, 70).Draw(t, "validFor")) * time.Second)
		return tx(t, s.next, until)
	}
}

func drawChanges(t *rapid.T, v chain.Version) []*logv1.Change {
	var cs []*logv1.Change
	for range rapid.IntRange(0, 4).Draw(t, "changes") {
		key := rapid.SampledFrom(modelKeys).Draw(t, "key")
		if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
			cs = append(cs, del(key))
		} else {
			cs = append(cs, put(key, rapid.SampledFrom([]string{"", "x", "y", "z"}).Draw(t, "value")))
		}
	}

	return at(v, cs...)
}

// Blocks makes a few blocks. Each may be staged, executed and sealed while the one before waits for
// its commit.
func (s *machine) Blocks(t *rapid.T) {
	for range rapid.IntRange(1, 3).Draw(t, "blocks") {
		s.block(t)
	}
	s.settle(t)
}

// block delivers one or more blocks for a height, and seals the last. It commits the block before
// it, and leaves its own commit to settle.
func (s *machine) block(t *rapid.T) {
	last := s.m.clock
	if last.IsZero() {
		last = genesis
	}

	time := last.Add(time.Duration(rapid.IntRange(-2_000_000_000, 20_000_000_000).Draw(t, "advance")))
	for range rapid.IntRange(0, 2).Draw(t, "dropped") {
		s.stage(t, time.Add(1), rapid.Bool().Draw(t, "sealed"))
	}

	staged := s.stage(t, time, true)
	s.settle(t)
	rec := committed(staged)
	for range rapid.IntRange(0, 2).Draw(t, "other records") {
		s.m.append(nil)
	}

	index := s.m.append(rec)
	s.m.apply(rec)
	require.Equal(t, s.m.hash(), rec.AppHash, "the app hash is the one of the state computed from nothing (I3)")
	s.late, s.lateIndex = rec, index
	s.maybeSettle(t)
}

// stage executes a block, whole or in part.
func (s *machine) stage(t *rapid.T, blockTime time.Time, whole bool) chain.Staged {
	var txs [][]byte
	for range rapid.IntRange(0, 6).Draw(t, "txs") {
		raw := s.drawTx(t, blockTime)
		txs = append(txs, raw)
		if len(raw) > 2 && raw[0] == 1 {
			s.txs = append(s.txs, raw)
		}
	}

	b := block(s.d, blockTime, txs...)
	if s.late != nil {
		b.Height = s.late.Height + 1
		b.Hash = b.ContentHash()
	}
	refused, err := s.d.Begin(b)
	require.NoError(t, err)
	s.maybeSettle(t)

	if rapid.Bool().Draw(t, "again") {
		again, err := s.d.Begin(b)
		require.NoError(t, err)
		require.Equal(t, refused, again)
	}

	// Decide first which transactions are executed and what each writes; then all of them read and
	// finish, in any order.
	staged := maps.Clone(s.m.versions)
	earlier := make(map[chain.TxID]bool)
	results := make([]*logv1.TxResult, len(txs))
	writes := make([][]*logv1.Change, len(txs))
	var open []int
	version := func(i int) chain.Version {
		return chain.Version{Period: b.Period, Height: b.Height, Index: uint32(i)}
	}

	for i, raw := range txs {
		code, until := s.m.refusal(raw, blockTime, earlier)
		require.Equal(t, code, refused[i].GetCode(), "place %d: %v", i, refused[i])

		if code != logv1.Code_CODE_OK {
			results[i] = refused[i]
			continue
		}

		id := chain.HashTx(raw)
		earlier[id] = true
		open = append(open, i)
		results[i] = &logv1.TxResult{Id: id[:], Version: version(i).Proto(), Data: fmt.Appendf(nil, "did %d", i),
			ValidUntilMs: until}

		if rapid.IntRange(0, 5).Draw(t, "fails") == 0 {
			results[i].Code = logv1.Code_CODE_FAILED
			continue
		}

		writes[i] = drawChanges(t, version(i))
		note(staged, version(i), writes[i])
	}

	before := &model{versions: staged}
	finished := make(map[int]bool)
	ready := func(i int) bool {
		for _, o := range open {
			if o < i && !finished[o] {
				return false
			}
		}
		return true
	}

	for n, i := range rapid.Permutation(open).Draw(t, "order") {
		if !whole && n == len(open)/2 {
			return chain.Staged{}
		}
		s.maybeSettle(t)

		for _, j := range open {
			if finished[j] {
				continue
			}

			key := rapid.SampledFrom(modelKeys).Draw(t, "read")
			value, found, err := s.d.Read(version(j), []byte(key))

			if !ready(j) {
				require.ErrorIs(t, err, errNotReady)
				continue
			}

			require.NoError(t, err)
			require.Equal(t, before.read(key, version(j)), show(value, found), "key %q before %v", key, version(j))
		}

		answer := &logv1.TxResult{Code: results[i].Code, Data: results[i].Data}
		require.NoError(t, s.d.Finish(version(i), writes[i], answer))
		finished[i] = true
	}

	sealed, err := s.d.Seal()
	require.NoError(t, err)
	require.Equal(t, b, sealed.Block)

	for i := range results {
		require.True(t, proto.Equal(results[i], sealed.Results[i]), "place %d: want %v, have %v", i, results[i],
			sealed.Results[i])
	}

	var changes []*logv1.Change
	for _, w := range writes {
		changes = append(changes, w...)
	}

	require.Equal(t, len(changes), len(sealed.Changes))
	for i := range changes {
		require.True(t, proto.Equal(changes[i], sealed.Changes[i]))
	}

	return sealed
}

func show(value []byte, found bool) string {
	if !found {
		return "none"
	}
	return string(value)
}

func note(versions map[string][]version, v chain.Version, changes []*logv1.Change) {
	for _, c := range changes {
		k := string(c.Key)
		versions[k] = append(slices.Clip(versions[k]), version{v, string(c.Value), c.Delete})
	}
}

// apply changes the model as a BlockCommitted changes the state.
func (m *model) apply(rec *logv1.BlockCommitted) {
	if at := time.Unix(0, rec.TimeNs); at.After(m.clock) {
		m.clock = at
	}

	maps.DeleteFunc(m.ids, func(_ chain.TxID, r *logv1.TxResult) bool {
		return time.UnixMilli(r.ValidUntilMs).Before(m.clock)
	})

	for _, r := range rec.Results {
		if r.ValidUntilMs != 0 {
			m.ids[chain.TxID(r.Id)] = r
		}
	}

	for _, c := range rec.Changes {
		note(m.versions, chain.VersionFromProto(c.Version), []*logv1.Change{c})
	}

	m.height = rec.Height
	m.hashes[place{rec.Period, rec.Height}] = rec.AppHash
}

// Reset begins the next period.
func (s *machine) Reset(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "really") != 0 {
		t.Skip("a reset is rare")
	}

	s.m.period, s.m.height = s.m.period+1, 0
	rec := chainStarted(s.m.period)
	rec.InitialHeight = uint64(rapid.IntRange(0, 3).Draw(t, "initial height"))
	if rapid.Bool().Draw(t, "app hash") {
		rec.AppHash = s.m.hash()
	}

	require.NoError(t, s.d.StartChain(s.m.append(rec), rec))
	require.Equal(t, s.m.hash(), s.d.State().AppHash)
}

// Flush makes the state durable.
func (s *machine) Flush(t *rapid.T) {
	n, err := s.d.Flush()
	require.NoError(t, err)
	require.Equal(t, s.d.State().Index, n)
}

// Prune forgets older versions.
func (s *machine) Prune(t *rapid.T) {
	if s.m.height == 0 {
		t.Skip("no block in this period")
	}
	to := place{s.m.period, uint64(rapid.IntRange(int(s.d.State().InitialHeight), int(s.m.height)).Draw(t, "height"))}
	if to.Height == 0 {
		to.Height = 1
	}

	require.NoError(t, s.d.Prune(context.Background(), to.Height))
	if s.m.pruned.before(to) {
		s.m.pruned = to
	}
}

// Restart closes the state and opens it again.
func (s *machine) Restart(t *rapid.T) {
	index := s.d.State().Index
	require.NoError(t, s.d.Close())
	s.openDB(t)
	require.Equal(t, index, s.d.State().Index)
}

// Crash loses some unsynced data and redoes the log. The state that comes back is at a block
// boundary, not older than the durable applied index, and the redo leads to the same state (I3,
// I4).
func (s *machine) Crash(t *rapid.T) {
	durable, err := s.d.durableApplied()
	require.NoError(t, err)
	clone := s.fs.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: rapid.SampledFrom([]int{0, 50, 100}).Draw(t, "unsynced kept"),
		RNG:                 rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)),
	})
	applied := s.d.State().Index
	require.NoError(t, s.d.Close())
	s.fs = clone
	s.openDB(t)
	back := s.d.State()
	require.GreaterOrEqual(t, back.Index, durable)
	require.LessOrEqual(t, back.Index, applied)
	if back.Height > 0 {
		require.Equal(t, s.m.hashes[place{back.Period, back.Height}], back.AppHash)
	}

	require.NoError(t, s.d.VerifyScan(context.Background(), nil), "what a crash leaves is whole")
	s.m.pruned = s.d.published.Load().pruned

	from := rapid.IntRange(0, int(back.Index)).Draw(t, "redo from") // redoing applied records changes nothing
	for i := from; i < len(s.m.log); i++ {
		switch rec := s.m.log[i].(type) {
		case *logv1.ChainStarted:
			require.NoError(t, s.d.StartChain(uint64(i+1), rec))
		case *logv1.BlockCommitted:
			require.NoError(t, s.d.Redo(uint64(i+1), rec))
			if uint64(i+1) > back.Index {
				require.Equal(t, rec.AppHash, s.d.State().AppHash)
			}
		}
	}

	require.Equal(t, applied, s.d.State().Index)
}

// Check runs after each step: the DB's state is the model's, and so are a few reads.
func (s *machine) Check(t *rapid.T) {
	now := s.d.State()
	require.Equal(t, s.m.period, now.Period)
	require.Equal(t, s.m.height, now.Height)
	require.Equal(t, s.m.hash(), now.AppHash)
	_, err := s.d.Block(now.Next())
	require.ErrorIs(t, err, ErrNotCommitted)
	key := rapid.SampledFrom(modelKeys).Draw(t, "check key")
	s.checkLatest(t, key)
	if first := max(now.InitialHeight, 1); now.Height >= first {
		s.checkHeight(t, rapid.Uint64Range(first, now.Height).Draw(t, "check height"), key)
	}
	if len(s.txs) > 0 {
		s.checkResult(t, rapid.SampledFrom(s.txs).Draw(t, "check result"))
	}
}

// checkAll compares every read of the DB with the model.
func (s *machine) checkAll(t *rapid.T) {
	now := s.d.State()
	for h := max(now.InitialHeight, 1); h <= now.Height; h++ {
		s.checkHeight(t, h, modelKeys...)
	}
	s.checkLatest(t, modelKeys...)
	for _, raw := range s.txs {
		s.checkResult(t, raw)
	}
}

func (s *machine) checkLatest(t *rapid.T, keys ...string) {
	for _, k := range keys {
		require.Equal(t, s.m.read(k, chain.Version{Period: s.m.period + 1}), s.d.testGet(t, k, 0), "key %q", k)
	}
}

func (s *machine) checkHeight(t *rapid.T, h uint64, keys ...string) {
	meta, err := s.d.Block(h)
	if (place{s.m.period, h}).before(s.m.pruned) {
		require.ErrorIs(t, err, ErrPruned)
		_, _, _, err := s.d.Get([]byte("a"), h)
		require.ErrorIs(t, err, ErrPruned)
		return
	}

	require.NoError(t, err)
	require.Equal(t, s.m.hashes[place{s.m.period, h}], meta.AppHash)

	for _, k := range keys {
		require.Equal(t, s.m.read(k, chain.Version{Period: s.m.period, Height: h + 1}), s.d.testGet(t, k, h),
			"key %q at %d", k, h)
	}
}

func (s *machine) checkResult(t *rapid.T, raw []byte) {
	id := chain.HashTx(raw)
	r, found, err := s.d.Result(id)
	require.NoError(t, err)
	want, ok := s.m.ids[id]
	require.Equal(t, ok, found)
	require.True(t, !ok || proto.Equal(want, r))
}

// Random histories are compared with the model: versions, refusals, results and app hashes,
// whatever is delivered again, dropped, lost in a crash, restarted or pruned meanwhile, and whether
// or not the block before is committed while a block is executed (I2, I3, I4).
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &machine{
			fs: vfs.NewCrashableMem(),
			m: &model{
				period: 1, versions: make(map[string][]version),
				ids: make(map[chain.TxID]*logv1.TxResult), hashes: make(map[place][]byte),
			},
		}
		s.openDB(t)
		defer func() {
			if s.d != nil {
				s.d.Close()
			}
		}()

		rec := chainStarted(1)
		require.NoError(t, s.d.StartChain(s.m.append(rec), rec))
		t.Repeat(map[string]func(*rapid.T){
			"Blocks": s.Blocks, "Blocks again": s.Blocks, "Blocks once more": s.Blocks,
			"Reset": s.Reset, "Flush": s.Flush, "Prune": s.Prune, "Restart": s.Restart, "Crash": s.Crash,
			"": s.Check,
		})
		s.checkAll(t)
		require.NoError(t, s.d.VerifyScan(context.Background(), nil))
	})
}

// The app hash depends neither on which of two unrelated writes came first, nor on how a value came
// about.
func TestAppHashForgetsTheWay(t *testing.T) {
	hash := func(blocks ...[]*logv1.Change) []byte {
		d := started(t)
		v := chain.Version{Period: 1}

		for i, changes := range blocks {
			v.Height = uint64(i + 1)
			b := block(d, genesis)
			_, err := d.Begin(b)
			require.NoError(t, err)
			o, err := d.fold(header{v.Height, b.Hash, b.Time}, nil, at(v, changes...), d.committedGround())
			require.NoError(t, err)
			require.NoError(t, d.apply(uint64(i+2), o, nil))
		}

		require.NoError(t, d.VerifyScan(context.Background(), nil))
		return d.State().AppHash
	}
	type w = []*logv1.Change
	one := hash(w{put("a", "1"), put("b", "2")})
	require.Equal(t, one, hash(w{put("b", "2"), put("a", "1")}))
	require.Equal(t, one, hash(w{put("b", "2")}, w{put("a", "1")}))
	require.Equal(t, one, hash(w{put("a", "x"), put("b", "x"), put("c", "x")}, w{del("c"), put("b", "2")}, w{del("a")},
		w{put("a", "1"), del("z")}))
	require.NotEqual(t, one, hash(w{put("a", "2"), put("b", "1")}))
	require.NotEqual(t, one, hash(w{put("a", "1")}))
	require.False(t, bytes.Equal(one, hash(w{put("a", "1"), put("b", "2"), put("c", "")})),
		"an empty value is not a missing one")
}
