package offline

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/portable"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// exportAs writes the newest snapshot of a home to a file that claims to be what change makes of
// it.
func exportAs(t *testing.T, dir string, change func(*portable.About)) string {
	t.Helper()
	m, err := snapshots.Dir{FS: vfs.Default, Path: home.SnapshotDir(dir)}.Find("")
	require.NoError(t, err)
	db, err := storage.Open(filepath.Join(home.SnapshotDir(dir), m.ID), storage.Options{ReadOnly: true})
	require.NoError(t, err)
	defer db.Close()

	p, err := db.Pin()
	require.NoError(t, err)
	defer p.Close()

	g, err := home.ReadGenesis(dir)
	require.NoError(t, err)
	about := portable.About{Genesis: g, LogID: m.LogID, Index: m.Index, BlockHash: db.State().BlockHash}
	change(&about)

	var b bytes.Buffer
	_, err = portable.Export(t.Context(), &b, p, about, portable.Taking{})
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "as.snapshot")
	require.NoError(t, os.WriteFile(name, b.Bytes(), 0o600))

	return name
}

// names returns the names in a directory; none if it does not exist.
func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// What is no snapshot of the home's log never becomes one, and leaves nothing.
func TestAFileThatTheLogDoesNotLeadToIsRefused(t *testing.T) {
	s := makeSpecimen(t, "solo", home.InitOptions{}, func(s *specimen, r running) {
		s.put(t, r, "a", "1", "b", "2")
	})
	made, _, err := CreateSnapshot(t.Context(), s.home, SnapshotOptions{})
	require.NoError(t, err)
	whole := exportAs(t, s.home, func(*portable.About) {})

	files := map[string]string{
		"which is a OrderDecided": exportAs(t, s.home, func(a *portable.About) { a.Index-- }),
		"ends at":                 exportAs(t, s.home, func(a *portable.About) { a.Index += 1000 }),
		"another event log":       exportAs(t, s.home, func(a *portable.About) { a.LogID = make([]byte, 16) }),
		"its genesis differs":     exportAs(t, s.home, func(a *portable.About) { a.Genesis.Limits.MaxTxOps++ }),
		"made of a snapshot for":  exportAs(t, s.home, func(a *portable.About) { a.LogID = nil }),
		"the chain was started as": exportAs(t, s.home, func(a *portable.About) {
			a.Started = []byte("\x0a\x04pear")
		}),
	}
	require.NoError(t, os.RemoveAll(filepath.Join(home.SnapshotDir(s.home), made.ID)))
	before := names(t, filepath.Join(s.home, "data"))

	for text, name := range files {
		_, _, err := ImportSnapshot(t.Context(), s.home, name, SnapshotOptions{})
		require.ErrorIs(t, err, exit.ErrConfig, text)
		require.ErrorContains(t, err, text)
	}

	interrupted, stop := context.WithCancelCause(t.Context())
	why := errors.New("interrupted")
	stop(why)
	_, _, err = ImportSnapshot(interrupted, s.home, whole, SnapshotOptions{})
	require.ErrorIs(t, err, why)

	require.Empty(t, names(t, home.SnapshotDir(s.home)))
	require.Equal(t, before, names(t, filepath.Join(s.home, "data")))

	m, fresh, err := ImportSnapshot(t.Context(), s.home, whole, SnapshotOptions{})
	require.NoError(t, err)
	require.True(t, fresh)
	require.Equal(t, made.ID, m.ID)
	require.Equal(t, made.StateRoot, m.StateRoot)
}

// An interrupted init leaves no home, and takes nothing of a directory that has something in it.
func TestAHomeFromAFileIsWholeOrNotThere(t *testing.T) {
	s := makeSpecimen(t, "solo", home.InitOptions{}, func(s *specimen, r running) { s.put(t, r, "a", "1") })
	_, _, err := CreateSnapshot(t.Context(), s.home, SnapshotOptions{})
	require.NoError(t, err)
	whole := exportAs(t, s.home, func(*portable.About) {})
	dir := t.TempDir()
	fresh := filepath.Join(dir, "fresh")

	interrupted, stop := context.WithCancelCause(t.Context())
	why := errors.New("interrupted")
	stop(why)
	_, err = InitFrom(interrupted, fresh, whole, home.InitOptions{}, SnapshotOptions{})
	require.ErrorIs(t, err, why)
	require.Empty(t, names(t, dir))

	v, err := InitFrom(t.Context(), fresh, whole, home.InitOptions{}, SnapshotOptions{})
	require.NoError(t, err)
	require.Equal(t, "flips", v.ChainID)
	require.Equal(t, []string{"fresh"}, names(t, dir))

	_, err = InitFrom(t.Context(), fresh, whole, home.InitOptions{}, SnapshotOptions{})
	require.ErrorIs(t, err, exit.ErrConfig)
	require.ErrorContains(t, err, "is not empty")

	_, err = InitFrom(t.Context(), filepath.Join(dir, "peers"), whole, home.InitOptions{
		Set: []config.Assignment{{Key: "consensus.kind", Value: comet.Name}},
	}, SnapshotOptions{})
	require.ErrorIs(t, err, exit.ErrConfig)
	require.Equal(t, []string{"fresh"}, names(t, dir))
}

// oneBlock returns the state of a chain with one block.
func oneBlock(t *testing.T, disk vfs.FS, g chain.Genesis) *storage.DB {
	t.Helper()
	db, err := storage.Open("state", storage.Options{FS: disk, OnFatal: func(err error) { panic(err) }})
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })

	started, err := g.ChainStarted()
	require.NoError(t, err)
	require.NoError(t, db.StartChain(1, started))
	b := chain.Block{ChainID: g.ChainID, Height: 1, Time: time.Unix(0, started.GenesisTimeNs).Add(time.Second)}
	b.Hash = b.ContentHash()
	_, err = db.Begin(b)
	require.NoError(t, err)
	sealed, err := db.Seal()
	require.NoError(t, err)
	require.NoError(t, db.Commit(2, &logv1.BlockCommitted{ChainId: b.ChainID, Height: 1, BlockHash: b.Hash,
		TimeNs: b.Time.UnixNano(), AppHash: sealed.AppHash}))

	return db
}

// fileOf returns a file of a chain with one block, and its metadata.
func fileOf(t *testing.T, g chain.Genesis) (string, portable.Metadata) {
	t.Helper()
	db := oneBlock(t, vfs.NewMem(), g)

	p, err := db.Pin()
	require.NoError(t, err)
	defer p.Close()

	var out bytes.Buffer
	m, err := portable.Export(t.Context(), &out, p, portable.About{Genesis: g}, portable.Taking{})
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "peers.snapshot")
	require.NoError(t, os.WriteFile(name, out.Bytes(), 0o600))

	return name, m
}

// A home with peers offers a file whether a node runs in it or not, and keeps nothing of a file
// that it does not offer.
func TestAFileIsOfferedByAStoppedAndByARunningHome(t *testing.T) {
	s := makeSpecimen(t, "comet", home.InitOptions{
		Set: []config.Assignment{{Key: "consensus.kind", Value: comet.Name}},
	})
	g, err := home.ReadGenesis(s.home)
	require.NoError(t, err)
	whole, m := fileOf(t, g)
	peers := home.StateSyncDir(s.home)

	require.NoError(t, os.MkdirAll(peers, 0o700))
	lock, err := home.Lock(s.home) // as a node that runs there has it
	require.NoError(t, err)

	var asked string
	refused := errors.New("refused")
	_, err = OfferSnapshot(t.Context(), s.home, whole, SnapshotOptions{}, func(staged string) error {
		asked = staged
		require.Equal(t, []string{staged}, names(t, peers), "it is staged, and nothing else")
		return refused
	})
	require.ErrorIs(t, err, refused)
	require.True(t, strings.HasPrefix(asked, "tmp-import-"), asked)
	require.Empty(t, names(t, peers))

	_, err = OfferSnapshot(t.Context(), s.home, whole, SnapshotOptions{}, func(staged string) error {
		_, err := peersDir(vfs.Default, s.home).Adopt(staged, 2, nil)
		return err
	})
	require.NoError(t, err)
	require.Equal(t, []string{"0-1"}, names(t, peers))
	require.NoError(t, lock.Close())
	require.NoError(t, os.RemoveAll(peers))

	never := func(string) error { return errors.New("no node runs") }
	other := g
	other.ChainID = "pear"
	foreign, _ := fileOf(t, other)
	_, err = OfferSnapshot(t.Context(), s.home, foreign, SnapshotOptions{}, never)
	require.ErrorIs(t, err, exit.ErrConfig)
	require.ErrorContains(t, err, `is of chain "pear"`)

	data, err := os.ReadFile(whole)
	require.NoError(t, err)
	data[len(data)/2] ^= 1
	flipped := filepath.Join(t.TempDir(), "flipped")
	require.NoError(t, os.WriteFile(flipped, data, 0o600))
	_, err = OfferSnapshot(t.Context(), s.home, flipped, SnapshotOptions{}, never)
	require.ErrorIs(t, err, exit.ErrDamage)
	require.Empty(t, names(t, peers))

	got, err := OfferSnapshot(t.Context(), s.home, whole, SnapshotOptions{}, never)
	require.NoError(t, err)
	require.Equal(t, m, got)
	list, err := PeerSnapshots(s.home)
	require.NoError(t, err)
	require.Equal(t, []portable.Metadata{m}, list)
}
