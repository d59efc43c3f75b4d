package node

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/governance"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/comettest"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/storage/portable"
	"github.com/coppice-go/coppice/eventlog/pebblefs"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/statesync"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// resetKey is the governance key of the tests' chains.
var resetKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// ahead is a node whose chain was reset, with what another node needs to follow it.
type ahead struct {
	*abciHand
	blocks []comettest.Block // of epoch 0
	points []consensus.ResetPoint
}

// initResettable makes two homes of one chain that can be reset.
func initResettable(t *testing.T) (one, other string) {
	t.Helper()
	one = initABCIWith(t, func(o *home.InitOptions) {
		o.GovernanceKey, o.ResetOffset = resetKey.Public().(ed25519.PublicKey), 20
	})
	other = filepath.Join(t.TempDir(), "other")
	copyHome(t, other, one)
	return one, other
}

func copyHome(t *testing.T, to, from string) {
	t.Helper()
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
	for _, f := range []string{"admin.token", "submit.token", "read.token"} {
		require.NoError(t, os.Chmod(filepath.Join(to, f), 0o600))
	}
}

// runAhead runs a node through so many resets, and leaves it at the first block of the last epoch.
func runAhead(t *testing.T, dir string, resets int) *ahead {
	t.Helper()
	a := &ahead{abciHand: driveABCI(t, dir)}
	a.initValidators()

	for range resets {
		s, err := a.store.State(t.Context())
		require.NoError(t, err)
		for range 3 {
			s = a.make(s, a.put(fmt.Sprintf("key %d", s.Height)))
		}
		a.reset()
	}

	return a
}

// reset resets the chain, and makes the first block of the next epoch.
func (a *ahead) reset() {
	a.t.Helper()
	s, err := a.store.State(a.t.Context())
	require.NoError(a.t, err)
	started, e := a.started(), s.Period

	s = a.make(s, a.decide(e+1))
	require.True(a.t, s.InHold())
	decided := a.last()
	require.NoError(a.t, a.stateSync.Preserve(a.t.Context(), s))
	root, err := a.store.RootAt(a.t.Context(), e)
	require.NoError(a.t, err)
	a.points = append(a.points, consensus.ResetPoint{ChainID: s.ChainID, Epoch: e, Height: s.Height,
		Root: root.State, AppHash: s.AppHash, BlockHash: decided.Hash, Time: decided.Time, Started: started})
	a.make(s) // the held block

	a.enter()
	s, err = a.store.State(a.t.Context())
	require.NoError(a.t, err)
	a.make(s)
}

// initValidators begins the chain with the validators of its genesis, on which block F depends.
func (a *abciHand) initValidators() {
	a.t.Helper()
	g, err := home.ReadGenesis(a.home)
	require.NoError(a.t, err)
	state, err := g.AppState()
	require.NoError(a.t, err)
	theirs, err := comethome.ReadGenesis(comethome.Dir(a.home))
	require.NoError(a.t, err)
	_, err = a.c.InitChain("test", 1, state, g.GenesisTime, theirs.Validators...)
	require.NoError(a.t, err)
}

// started returns the record that began the epoch.
func (a *abciHand) started() *logv1.ChainStarted {
	a.t.Helper()
	var rec *logv1.ChainStarted
	for e, err := range chain.Records(a.eventLog.Load().Cursor, 1, chain.End, chain.KindChainStarted) {
		require.NoError(a.t, err)
		m, err := chain.DecodeRecord(e)
		require.NoError(a.t, err)
		rec = m.(*logv1.ChainStarted)
	}
	return rec
}

// last returns the last block of epoch 0, or of the running epoch.
func (a *ahead) last() comettest.Block { return a.blocks[len(a.blocks)-1] }

// make makes the next block, and returns the state after it.
func (a *ahead) make(s chain.State, txs ...[]byte) chain.State {
	a.t.Helper()
	b := a.block(int64(s.Next()), txs...)
	if s.Height == 0 && s.Period > 0 {
		b.Time = s.Time.UTC()
	}
	a.finalize(b)
	a.commitABCI()
	a.blocks = append(a.blocks, b)
	s, err := a.store.State(a.t.Context())
	require.NoError(a.t, err)
	return s
}

// decide returns the transaction that decides on the n-th reset.
func (a *abciHand) decide(n uint64) []byte {
	a.t.Helper()
	body, err := governance.SignReset(resetKey, governance.ResetChange{ChainID: "test", Sequence: n})
	require.NoError(a.t, err)
	tx := chain.NewTx(governance.Name, body, time.Minute)
	raw, err := tx.Encode()
	require.NoError(a.t, err)
	return raw
}

// enter ends the chain in hold, and begins the next epoch, as the driver does.
func (a *abciHand) enter() {
	a.t.Helper()
	g, err := home.ReadGenesis(a.home)
	require.NoError(a.t, err)
	state, err := g.AppState()
	require.NoError(a.t, err)
	comet := comethome.Dir(a.home)
	set, err := comethome.ReadGenesis(comet)
	require.NoError(a.t, err)
	rec, err := a.ordering.Reset(a.t.Context(), chain.Renewal{AppState: state})
	require.NoError(a.t, err)
	require.NoError(a.t, comethome.Renew(comet, comethome.Epoch{ChainID: rec.NewChainId, Validators: set.Validators,
		Time: time.Unix(0, rec.GenesisTimeNs).UTC(), InitialHeight: rec.InitialHeight, AppHash: rec.AppHash}))
	makeCometData(a.t, a.home)
	a.info() // the application learns that the chain has ended
	_, err = a.c.InitChain(rec.NewChainId, int64(rec.InitialHeight), state, time.Unix(0, rec.GenesisTimeNs).UTC())
	require.NoError(a.t, err)
}

// peerOf is a peer that hands out the states at the resets of a node. edit, if set, changes the
// metadata, and spoil the chunks.
type peerOf struct {
	*ahead
	name  string
	edit  func(*portable.Metadata)
	spoil func(index uint32, chunk []byte) ([]byte, error)
	asked int // for chunks
}

func (p *peerOf) String() string { return p.name }

func (*peerOf) Standing(context.Context) (s consensus.PeerStanding, err error) { return s, nil }

func (*peerOf) Certificates(context.Context, uint64) ([]consensus.Certificate, error) {
	return nil, nil
}

func (*peerOf) FirstGenesis(context.Context) ([]byte, error) { return nil, nil }

func (*peerOf) LightBlock(context.Context, uint64) (block, validators []byte, err error) {
	return nil, nil, consensus.ErrNoSnapshot
}

func (p *peerOf) AtReset(_ context.Context, epoch uint64) ([]byte, error) {
	b, err := p.stateSync.AtReset(epoch)
	if err != nil || p.edit == nil {
		return b, err
	}
	m, err := portable.Decode(b)
	p.edit(&m)
	return m.Encode(), err
}

func (p *peerOf) ResetChunk(_ context.Context, _ []byte, index uint32) ([]byte, error) {
	p.asked++
	b, err := p.stateSync.AtReset(uint64(len(p.points) - 1))
	if err != nil {
		return nil, err
	}
	own := sha256.Sum256(b) // the hash that was asked for may be that of edited metadata
	chunk, err := p.stateSync.ResetChunk(own[:], index)
	if err == nil && p.spoil != nil {
		chunk, err = p.spoil(index, chunk)
	}
	return chunk, err
}

// offered waits until a node hands out the state at its last reset.
func (a *ahead) offered() {
	a.t.Helper()
	require.Eventually(a.t, func() bool {
		_, err := a.stateSync.AtReset(uint64(len(a.points) - 1))
		return err == nil
	}, time.Minute, 5*time.Millisecond)
}

// follow has a node that took the state at the last reset go on with the last epoch.
func (a *ahead) follow(b *abciHand) {
	a.t.Helper()
	at := a.points[len(a.points)-1]
	s, err := b.store.State(a.t.Context())
	require.NoError(a.t, err)
	require.Equal(a.t, []any{at.ChainID, at.Epoch, at.Height, at.AppHash},
		[]any{s.ChainID, s.Period, s.Height, s.AppHash})
	require.True(a.t, s.InHold())
	root, err := b.store.RootAt(a.t.Context(), at.Epoch)
	require.NoError(a.t, err)
	require.Equal(a.t, at.Root, root.State)

	b.enter()
	b.finalize(a.last())
	b.commitABCI()
	ours, err := a.store.State(a.t.Context())
	require.NoError(a.t, err)
	theirs, err := b.store.State(a.t.Context())
	require.NoError(a.t, err)
	require.Equal(a.t, ours.AppHash, theirs.AppHash)
	require.Equal(a.t, ours.Height, theirs.Height)
}

// A node that is below a reset, or several epochs behind, takes the state at the newest reset from
// a peer, and goes on from there: with the same app hash, with what it had acknowledged and nobody
// has applied, and with a log that is whole. Item 40, 55.
func TestANodeThatWasLeftBehindTakesTheStateAtTheReset(t *testing.T) {
	for _, resets := range []int{1, 3} {
		for _, height := range []int{0, 2, 4, 5} { // none, below the reset, at it, and its chain has ended there
			if resets == 1 && height >= 4 {
				continue // it has the state
			}
			t.Run(fmt.Sprintf("%d resets, from height %d", resets, height), func(t *testing.T) {
				one, other := initResettable(t)
				a := runAhead(t, one, resets)
				defer a.close()
				a.offered()

				b := driveABCI(t, other)
				var waiting []byte
				if height > 0 {
					b.initValidators()
					for _, blk := range a.blocks[:height] {
						b.finalize(blk)
						b.commitABCI()
					}
					applied := a.blocks[2].Txs[0]
					waiting = b.put("acknowledged by the node that was left behind")
					for _, s := range b.submit(applied, waiting) {
						require.NoError(t, s.Err)
					}
				}
				if height == 5 {
					_, err := b.ordering.Reset(t.Context(), chain.Renewal{})
					require.NoError(t, err)
				}

				at := a.points[resets-1]
				peers := []consensus.Peer{&peerOf{ahead: a, name: "a"}}
				require.NoError(t, b.stateSync.Join(t.Context(), at, peers))
				records := b.appended()
				require.NoError(t, b.stateSync.Join(t.Context(), at, peers), "it may be repeated")
				require.Equal(t, records, b.appended())

				b.cut("coppice/node/transactions/storage")
				b.again()
				a.follow(b)
				b.close()

				v, err := offline.Verify(t.Context(), other, offline.VerifyOptions{SkipConsensus: true})
				require.NoError(t, err)
				require.EqualValues(t, at.Height, v.BaseHeight)
				require.EqualValues(t, at.Height+20, v.Height)

				b = driveABCI(t, other)
				st, err := b.pool.Stat(t.Context())
				require.NoError(t, err)
				if height > 0 {
					require.Equal(t, 1, st.Txs, "what nobody has applied goes to the new chain")
					s, err := b.store.State(t.Context())
					require.NoError(t, err)
					blk := b.block(int64(s.Next()), waiting)
					require.Equal(t, []uint32{0}, b.finalize(blk).Codes)
					b.commitABCI()
					st, err = b.pool.Stat(t.Context())
					require.NoError(t, err)
				}
				require.Zero(t, st.Txs)
				b.close()

				// The state is gone: the one that the node took is there, and the log leads on from
				// it.
				require.NoError(t, os.RemoveAll(home.StateDir(other)))
				_, err = offline.RestoreSnapshot(t.Context(), other, "", nil)
				require.NoError(t, err)
				_, err = offline.Verify(t.Context(), other, offline.VerifyOptions{SkipConsensus: true})
				require.NoError(t, err)
			})
		}
	}
}

// What a peer sends that is not the state at the reset is refused, and nothing of it is installed.
// The next peer is asked. Item 40.
func TestAPeerThatLiesAboutTheStateAtAResetIsPassedBy(t *testing.T) {
	one, other := initResettable(t)
	a := runAhead(t, one, 2)
	defer a.close()
	a.offered()
	foreign, _ := initResettable(t)
	f := runAhead(t, foreign, 2) // the same heights with other keys and times
	defer f.close()
	f.offered()

	b := driveABCI(t, other)
	defer b.close()
	b.initValidators()
	at := a.points[1]

	theirs, err := f.stateSync.AtReset(1)
	require.NoError(t, err)
	hash := sha256.Sum256(theirs)
	foreignChunk, err := f.stateSync.ResetChunk(hash[:], 0)
	require.NoError(t, err)

	liars := map[string]struct {
		*peerOf
		want string
	}{
		"foreign state": {&peerOf{ahead: f}, "it has app hash"},
		"another chain": {&peerOf{ahead: a, edit: func(m *portable.Metadata) { m.ChainID = "other-1" }}, `of "other-1"`},
		"another epoch": {&peerOf{ahead: a, edit: func(m *portable.Metadata) { m.Period = 0 }}, "epoch 0"},
		"another height": {&peerOf{ahead: a, edit: func(m *portable.Metadata) { m.Height++ }},
			fmt.Sprintf("at height %d", at.Height+1)},
		"oversized": {&peerOf{ahead: a, edit: func(m *portable.Metadata) {
			m.ChunkBytes, m.Bytes = 8<<20, 50_000*8<<20
			m.Chunks = make([][32]byte, 50_000)
		}}, "left on the disk"},
		"another clock": {&peerOf{ahead: a, edit: func(m *portable.Metadata) { m.Clock = m.Clock.Add(1) }}, "clock"},
		"truncated": {&peerOf{ahead: a, spoil: func(_ uint32, chunk []byte) ([]byte, error) {
			return chunk[:len(chunk)-1], nil
		}}, "bytes, want"},
		"swapped": {&peerOf{ahead: a, spoil: func(uint32, []byte) ([]byte, error) {
			return foreignChunk, nil
		}}, "chunk 0"},
		"its own list": {&peerOf{ahead: f, edit: func(m *portable.Metadata) {
			m.AppHash = at.AppHash
			m.Clock = at.Time
		}}, "app hash"},
		"too long": {&peerOf{ahead: a, spoil: func(_ uint32, chunk []byte) ([]byte, error) {
			return append(chunk, 0), nil
		}}, "bytes, want"},
		"silent": {&peerOf{ahead: a, spoil: func(uint32, []byte) ([]byte, error) {
			return nil, context.DeadlineExceeded
		}}, "deadline"},
	}

	records := b.appended()
	for what, liar := range liars {
		liar.name = what
		err := b.stateSync.Join(t.Context(), at, []consensus.Peer{liar.peerOf})
		require.ErrorContains(t, err, liar.want, what)
	}
	require.Equal(t, records, b.appended(), "nothing is installed")
	imported := filepath.Join(home.StateSyncDir(other), statesync.ImportDir)
	for _, dir := range []string{home.SnapshotDir(other), imported} {
		names, _ := os.ReadDir(dir)
		require.Empty(t, names, dir)
	}

	// A block that did not decide a reset cannot be passed off as one that did, whatever vouches
	// for it.
	no := at
	no.Started, no.Time = a.points[1].Started, at.Time.Add(time.Nanosecond)
	err = b.stateSync.Join(t.Context(), no, []consensus.Peer{&peerOf{ahead: a, name: "another time",
		edit: func(m *portable.Metadata) { m.Clock = no.Time }}})
	require.ErrorContains(t, err, "did not decide a reset")
	require.Equal(t, records, b.appended())

	// One honest peer beside all of these is enough.
	var all []consensus.Peer
	for _, liar := range liars {
		all = append(all, liar.peerOf)
	}
	all = append(all, &peerOf{ahead: a, name: "honest"})
	require.NoError(t, b.stateSync.Join(t.Context(), at, all))
	a.follow(b)
}

// A node dies at any operation of its disk while it takes the state at a reset. It comes back with
// the old state or with that one, and takes it again. Item 40.
func TestAJoinThatIsCutShortBeginsAnew(t *testing.T) {
	one, dir := initResettable(t)
	a := runAhead(t, one, 1)
	defer a.close()
	a.offered()
	at, peers := a.points[0], []consensus.Peer{&peerOf{ahead: a, name: "a"}}

	points := 8
	if os.Getenv("COPPICE_SOAK") != "" {
		points = 200
	}
	total := int64(0)

	for n := range points {
		other := filepath.Join(t.TempDir(), "home")
		copyHome(t, other, dir)
		c := &cutDisk{mem: vfs.NewCrashableMem(), rng: rand.New(rand.NewPCG(uint64(n), 9))}
		fs := errorfs.Wrap(c.mem, errorfs.InjectorFunc(c.before))
		b := driveABCI(t, other, WithDisk(pebblefs.Adapt(fs), fs))
		b.initValidators()
		b.finalize(a.blocks[0])
		b.commitABCI()
		c.ops.Store(0)
		if total > 0 {
			c.at.Store(1 + int64(n)*total/int64(points))
		}
		require.NoError(t, b.stateSync.Join(t.Context(), at, peers))
		if n == 0 {
			total = c.ops.Load()
			require.Greater(t, total, int64(50))
		}

		after := c.mem
		c.mu.Lock()
		if c.after != nil {
			after = c.after
		}
		c.mu.Unlock()
		b.close()

		b = driveABCI(t, other, WithDisk(pebblefs.Adapt(after), after))
		s, err := b.store.State(t.Context())
		require.NoError(t, err)
		require.Contains(t, []uint64{1, at.Height}, s.Height, "operation %d of %d", c.at.Load(), total)
		require.NoError(t, b.stateSync.Join(t.Context(), at, peers))
		b.again()
		a.follow(b)
		b.close()
		_, err = offline.Verify(t.Context(), other,
			offline.VerifyOptions{SkipConsensus: true, Disk: after, Logs: pebblefs.Adapt(after)})
		require.NoError(t, err, "operation %d of %d", c.at.Load(), total)
	}
}

// The state at a reset is the same on all nodes, also on one that made its copy after the held
// block, and on one that died before it had made the form for peers. The next reset replaces it.
// Step 2 of the reset.
func TestTheStateAtAResetIsKeptUntilTheNextOne(t *testing.T) {
	one, other := initResettable(t)
	a := runAhead(t, one, 1)
	defer a.close()
	a.offered()
	want, err := a.stateSync.AtReset(0)
	require.NoError(t, err)

	b := &ahead{abciHand: driveABCI(t, other)}
	b.initValidators()
	s, err := b.store.State(t.Context())
	require.NoError(t, err)
	require.ErrorIs(t, b.stateSync.Preserve(t.Context(), s), chain.ErrNoReset)
	for _, blk := range a.blocks[:5] { // the last of them is held
		b.finalize(blk)
		b.commitABCI()
	}
	s, err = b.store.State(t.Context())
	require.NoError(t, err)
	require.Equal(t, a.points[0].Height+1, s.Height)
	b.stateSync.Config.EveryHeights = 0
	require.NoError(t, b.stateSync.Preserve(t.Context(), s))
	require.NoError(t, b.stateSync.Preserve(t.Context(), s), "it may be repeated")
	b.points = a.points
	b.offered()
	have, err := b.stateSync.AtReset(0)
	require.NoError(t, err)
	require.Equal(t, want, have)
	require.Eventually(t, func() bool {
		names, err := os.ReadDir(home.ResetCopiesDir(other))
		return err == nil && len(names) == 0
	}, time.Minute, 5*time.Millisecond)
	b.close()

	// As if it had died with the copy alone.
	require.NoError(t, os.RemoveAll(home.ResetsDir(other)))
	b.abciHand = driveABCI(t, other)
	require.NoError(t, b.stateSync.Preserve(t.Context(), s))
	b.close()
	require.NoError(t, os.RemoveAll(filepath.Join(home.ResetsDir(other))))
	b.abciHand = driveABCI(t, other)
	require.NoError(t, b.stateSync.Preserve(t.Context(), s))
	b.offered()
	have, err = b.stateSync.AtReset(0)
	require.NoError(t, err)
	require.Equal(t, want, have)
	b.close()
}
