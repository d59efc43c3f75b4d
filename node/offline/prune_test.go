package offline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/retention"
)

// pruneSpecimen is a specimen that also knows what a key was at each height.
type pruneSpecimen struct {
	*specimen
	counts map[uint64]string // height → value of the key count, if a block of the height wrote it
	height uint64            // the last one
	keys   []config.Assignment
}

// grow writes the key count n times, one block each.
func (s *pruneSpecimen) grow(t *testing.T, r running, n int) {
	t.Helper()
	for range n {
		value := fmt.Sprint(len(s.counts), strings.Repeat("x", 200))
		s.put(t, r, "count", value)
		status, err := r.Status(t.Context())
		require.NoError(t, err)
		s.height = status.Height
		s.counts[s.height] = value
	}
}

// makePruneSpecimen makes a home with a log of several segments and several snapshots. Its log is
// kept whole by its node, and then, by the configuration, is not to be kept whole any more.
func makePruneSpecimen(t *testing.T, o home.InitOptions) *pruneSpecimen {
	t.Helper()
	s := &pruneSpecimen{counts: make(map[uint64]string), keys: append(o.Set,
		config.Assignment{Key: "listen", Value: "127.0.0.1:0", Flag: "--set"})}
	var runs []func(*specimen, running)
	n := 5
	if o.Consensus != nil {
		n = 2 // a CometBFT takes long to start
	}
	for i := range n {
		runs = append(runs, func(of *specimen, r running) {
			s.specimen = of
			s.grow(t, r, 6)
			if i%2 == 1 && o.Consensus == nil {
				_, _, err := r.CreateSnapshot(t.Context())
				require.NoError(t, err)
			}
		})
	}
	makeSpecimen(t, "to prune", o, runs...)
	s.set(t, "log.retain", "snapshot")

	return s
}

// set changes keys of the configuration: name, value, and so on.
func (s *pruneSpecimen) set(t *testing.T, keys ...string) {
	t.Helper()
	for i := 0; i < len(keys); i += 2 {
		s.keys = append(s.keys, config.Assignment{Key: keys[i], Value: keys[i+1], Flag: "--set"})
	}
	c, err := config.FromAssignments(s.keys)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(s.home, config.FileName), []byte(c.Config.Commented()), 0o644))
}

// requireReads starts the node of a home and checks that it has the heights from first on, none
// below, and the same app hash.
func (s *pruneSpecimen) requireReads(t *testing.T, dir string, first uint64) {
	t.Helper()
	r, err := run(t, dir)
	require.NoError(t, err)
	require.NoError(t, s.check(t.Context(), r))

	for h, want := range s.counts {
		value, found, err := r.GetAt(t.Context(), []byte("count"), h)
		if h < first {
			require.ErrorContains(t, err, storage.ErrPruned.Error(), "height %d", h)
			require.ErrorContains(t, err, fmt.Sprintf("the oldest is %d", first))
			continue
		}
		require.NoError(t, err, "height %d", h)
		require.True(t, found)
		require.Equal(t, want, string(value), "height %d", h)
	}

	require.NoError(t, r.stop())
}

func requireVerified(t *testing.T, dir string) Verified {
	t.Helper()
	v, err := Verify(t.Context(), dir, VerifyOptions{})
	require.NoError(t, err)
	return v
}

// Whatever height is asked for, a pruned home verifies, starts, reads the kept heights as before,
// and refuses the others. The log begins later, and replay from the oldest snapshot gives the same.
func TestAPrunedHomeVerifiesAndStarts(t *testing.T) {
	s := makePruneSpecimen(t, home.InitOptions{})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	first := uint64(1)

	for i := range 3 {
		before := first + rng.Uint64N(s.height-first+1)
		dry, err := Prune(t.Context(), s.home, PruneOptions{Before: before, DryRun: true})
		require.NoError(t, err)
		done, err := Prune(t.Context(), s.home, PruneOptions{Before: before})
		require.NoError(t, err)

		first = before
		require.Equal(t, first, done.State.Kept, "round %d", i)
		require.Equal(t, s.height, done.State.Last)
		require.Equal(t, dry.State.Kept, done.State.Kept)
		require.Equal(t, dry.Log.Kept, done.Log.Kept)
		require.Equal(t, dry.Snapshots.Kept, done.Snapshots.Kept)
		if i == 0 {
			require.Greater(t, done.Log.Kept, done.Log.First, "%v", done.Log.Holds)
			require.Less(t, done.Log.Sizes[0].After, done.Log.Sizes[0].Before)
		}

		v := requireVerified(t, s.home)
		require.Equal(t, done.Log.Kept, v.First)
		require.NotEmpty(t, v.Base)
		list, err := Snapshots(s.home)
		require.NoError(t, err)
		require.Len(t, list, 2)
		for _, e := range list {
			require.GreaterOrEqual(t, e.Index+1, v.First, "the log has what snapshot %s needs", e.ID)
		}
		s.requireReads(t, s.home, first)
	}

	_, err := Prune(t.Context(), s.home, PruneOptions{Before: s.height + 1})
	require.ErrorIs(t, err, storage.ErrNotCommitted)
	require.ErrorContains(t, err, fmt.Sprintf("but the state is at height %d", s.height))
	done, err := Prune(t.Context(), s.home, PruneOptions{KeepHeights: 1})
	require.NoError(t, err)
	require.Equal(t, s.height, done.State.Kept)
	s.requireReads(t, s.home, s.height)
}

// Without options, a pruning does what the configuration of the home would have its node do. What
// holds the rest is named.
func TestAPruningFollowsTheConfiguration(t *testing.T) {
	s := makePruneSpecimen(t, home.InitOptions{Set: []config.Assignment{
		{Key: "snapshots.keep", Value: "1", Flag: "--set"}}})
	names := func(p Part) (names string) {
		for _, h := range p.Holds {
			names += fmt.Sprintf("%s (%d); ", h.Name, h.First)
		}
		return names
	}

	s.set(t, "log.retain", "all")
	p, err := Prune(t.Context(), s.home, PruneOptions{})
	require.NoError(t, err)
	require.Equal(t, p.State.First, p.State.Kept)
	require.Contains(t, names(p.State), "retention.versions = 0: all heights (1)")
	require.Equal(t, p.Log.First, p.Log.Kept)
	require.Contains(t, names(p.Log), "log.retain = all (1)")
	require.Zero(t, p.Blocks)
	require.Equal(t, p.Snapshots.Last, p.Snapshots.Kept)
	requireVerified(t, s.home)

	s.set(t, "log.retain", "snapshot")
	s.set(t, "retention.versions", "3")
	require.NoError(t, retention.Followers{"sink": 5, "gone": 2, "late": 1000}.Write(vfs.Default, s.home))
	dry := PruneOptions{DryRun: true}
	p, err = Prune(t.Context(), s.home, dry)
	require.NoError(t, err)
	require.Equal(t, s.height-3, p.State.Kept)
	require.Equal(t, "follower gone", p.Log.Holds[0].Name[:len("follower gone")])
	require.EqualValues(t, 1, p.Log.Kept)
	require.Contains(t, names(p.Log), "follower sink (5)")

	_, err = Prune(t.Context(), s.home, PruneOptions{DryRun: true, Forget: []string{"unknown"}})
	require.ErrorIs(t, err, exit.ErrConfig)
	dry.Forget = []string{"gone", "sink"}
	p, err = Prune(t.Context(), s.home, dry)
	require.NoError(t, err)
	require.Greater(t, p.Log.Kept, uint64(5))
	require.Contains(t, names(p.Log), "snapshots: what follows the oldest snapshot")
	requireVerified(t, s.home)

	// A note of followers that cannot be read holds everything, but does not keep the node from
	// starting.
	require.NoError(t, os.WriteFile(home.FollowersPath(s.home), []byte("sink: 5"), 0o644))
	_, err = Prune(t.Context(), s.home, PruneOptions{Forget: []string{"gone"}})
	require.ErrorIs(t, err, exit.ErrDamage)
	require.ErrorContains(t, err, home.FollowersPath(s.home))
	s.requireReads(t, s.home, 1) // neither a dry run nor a refused one changes anything
}

// A damaged home is refused and not changed, and so is one that another process uses, or in which
// no node was ever started.
func TestADamagedHomeIsNotPruned(t *testing.T) {
	s := makePruneSpecimen(t, home.InitOptions{})
	segs, err := filepath.Glob(filepath.Join(home.LogDir(s.home), "*.seg"))
	require.NoError(t, err)
	data, err := os.ReadFile(segs[0])
	require.NoError(t, err)
	flipped := append([]byte(nil), data...)
	flipped[5000] ^= 1
	write(t, segs[0], flipped)

	_, err = Prune(t.Context(), s.home, PruneOptions{KeepHeights: 2})
	require.ErrorIs(t, err, exit.ErrDamage)
	_, err = Compact(t.Context(), s.home, CompactOptions{})
	require.ErrorIs(t, err, exit.ErrDamage)
	write(t, segs[0], data)
	requireVerified(t, s.home)
	s.requireReads(t, s.home, 1)

	lock, err := home.Lock(s.home)
	require.NoError(t, err)
	_, err = Prune(t.Context(), s.home, PruneOptions{KeepHeights: 2})
	require.ErrorIs(t, err, exit.ErrHomeInUse)
	_, err = Compact(t.Context(), s.home, CompactOptions{})
	require.ErrorIs(t, err, exit.ErrHomeInUse)
	require.NoError(t, lock.Close())

	fresh := filepath.Join(t.TempDir(), "home")
	_, err = home.Init(fresh, home.InitOptions{Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	_, err = Prune(t.Context(), fresh, PruneOptions{KeepHeights: 2})
	require.ErrorIs(t, err, exit.ErrConfig)
	require.ErrorContains(t, err, "no node was ever started")
}

// image copies a home as kill -9 of this process would leave it.
func image(t *testing.T, from string) (to string) {
	t.Helper()
	to = filepath.Join(t.TempDir(), "home")
	require.NoError(t, copyTree(from, to))
	return to
}

// pruneSteps are the steps of a pruning that change the home.
var pruneSteps = []string{"cut the log", "versions", "compact state"}

// A pruning that is cut before any of its steps leaves a home that verifies and starts, and the
// next one completes it. The same holds for one whose context ends there.
func TestAPruningCanBeCutAnywhere(t *testing.T) {
	s := makePruneSpecimen(t, home.InitOptions{})
	want := s.height - 2

	original := image(t, s.home)
	images := make(map[string]string) // by step: what a kill before it leaves
	o := PruneOptions{Before: want, Progress: func(step string, _, _ uint64) {
		if slices.Contains(pruneSteps, step) {
			images[step] = image(t, s.home)
		}
	}}
	_, err := Prune(t.Context(), s.home, o)
	require.NoError(t, err)
	require.Len(t, images, len(pruneSteps))
	s.requireReads(t, s.home, want)

	for step, dir := range images {
		requireVerified(t, dir)
		done, err := Prune(t.Context(), dir, PruneOptions{Before: want})
		require.NoError(t, err, "cut at step %s", step)
		require.Equal(t, want, done.State.Kept)
		requireVerified(t, dir)
		if step == "compact state" {
			s.requireReads(t, dir, want)
		}
	}

	for _, step := range pruneSteps {
		dir := image(t, original)
		ctx, cut := context.WithCancelCause(t.Context())
		end := errors.New("cut")
		_, err := Prune(ctx, dir, PruneOptions{Before: want, Progress: func(at string, _, _ uint64) {
			if at == step {
				cut(end)
			}
		}})
		require.ErrorIs(t, err, end, step)
		requireVerified(t, dir)
		_, err = Prune(t.Context(), dir, PruneOptions{Before: want})
		require.NoError(t, err)
		requireVerified(t, dir)
	}
}

// The home of a lone validator is pruned with the blocks of its CometBFT, and then goes on.
func TestAPrunedCometBFTHomeGoesOn(t *testing.T) {
	s := makePruneSpecimen(t, home.InitOptions{
		Set:       []config.Assignment{{Key: "consensus.kind", Value: comet.Name, Flag: "--consensus"}},
		Consensus: comet.InitOptions{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0"},
	})
	want := s.height - 5

	held, err := Prune(t.Context(), s.home, PruneOptions{Before: want})
	require.NoError(t, err)
	require.Equal(t, want, held.State.Kept)
	require.EqualValues(t, 1, held.Blocks.Kept)
	require.Contains(t, held.Blocks.Holds[0].Name, "light clients")

	path := filepath.Join(comethome.Dir(s.home), "config", "config.toml")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	text := strings.Replace(string(data), `trust_period = "168h0m0s"`, `trust_period = "0s"`, 1)
	require.NotEqual(t, string(data), text)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))

	var images []string
	var at []string
	done, err := Prune(t.Context(), s.home, PruneOptions{Before: want, Progress: func(step string, _, _ uint64) {
		switch step {
		case "blocks", "states", "compact blockstore.db", "compact state.db":
			at, images = append(at, step), append(images, image(t, s.home))
		}
	}})
	require.NoError(t, err)
	require.Equal(t, want, done.Blocks.Kept)
	require.EqualValues(t, 1, done.Evidence, "evidence of two days stays")
	require.Len(t, images, 4)

	for i, dir := range images {
		requireVerified(t, dir)
		again, err := Prune(t.Context(), dir, PruneOptions{Before: want})
		require.NoError(t, err, "cut at %s", at[i])
		require.Equal(t, want, again.Blocks.Kept)
		requireVerified(t, dir)
	}

	sizes, err := Compact(t.Context(), s.home, CompactOptions{})
	require.NoError(t, err)
	names := make(map[string]consensus.Size)
	for _, size := range sizes {
		names[size.Name] = size
	}
	require.Contains(t, names, "state")
	require.Contains(t, names, "blockstore.db")
	require.Contains(t, names, "evidence.db")

	requireVerified(t, s.home)
	s.requireReads(t, images[1], want)
	r, err := run(t, s.home)
	require.NoError(t, err)
	s.grow(t, r, 2)
	require.NoError(t, r.stop())
	v := requireVerified(t, s.home)
	require.GreaterOrEqual(t, v.Height, s.height)
}
