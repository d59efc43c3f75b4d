package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
	"github.com/coppice-go/coppice/node/plan"
)

// A node joins by state sync, under load. Meanwhile it is killed (joining), or the nodes that serve
// it are struck (serving): children of their trees by any path and way, and their CometBFTs. In the
// end the node has joined each time, nothing acknowledged is lost or applied twice on any node, all
// nodes have the same blocks and app hashes, and all homes verify. COPPICE_JOIN_KILLS is the number
// of blows for each of the two sides; COPPICE_JOIN_SIDE selects one side.
func TestKillsDuringAJoinByStateSync(t *testing.T) {
	kills, _ := strconv.Atoi(os.Getenv("COPPICE_JOIN_KILLS"))
	if kills == 0 {
		t.Log("the short form is the script statesync.txtar")
		return
	}

	seed, _ := strconv.ParseUint(os.Getenv("COPPICE_COMET_SEED"), 10, 64)
	bin := filepath.Join(t.TempDir(), "coppice")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin,
		"github.com/coppice-go/coppice/cmd/coppice").CombinedOutput()
	require.NoError(t, err, string(out))

	for name, blow := range map[string]func(*join, context.Context) (string, error){"joining": (*join).killJoining,
		"serving": (*join).strikeServing} {
		if side := os.Getenv("COPPICE_JOIN_SIDE"); side != "" && side != name {
			continue
		}
		t.Run(name, func(t *testing.T) {
			for fallen := 0; fallen < kills; seed++ {
				fallen += joins(t, bin, seed, kills-fallen, blow)
			}
		})
	}
}

// Bounds of a testnet. The nodes that have joined run on, so a machine can bear only so many.
const (
	joinsOfOneNet  = 3
	blowsOfOneJoin = 8
	joinValidators = 4
	joinWithin     = 3 * time.Minute // after the last blow
)

// join is a testnet whose newest node is joining.
type join struct {
	*network
	rand *rand.Rand
}

// killJoining kills the process of the joining node, or its CometBFT's.
func (j *join) killJoining(ctx context.Context) (string, error) {
	s := strike{blow: KillNode, node: j.Nodes - 1}
	if j.rand.IntN(2) == 0 {
		s.blow = KillComet
	}
	_, err := j.fall(ctx, s)
	return []string{KillComet: "joining CometBFT", KillNode: "joining node"}[s.blow], err
}

// strikeServing kills a child of a validator's tree, or its CometBFT.
func (j *join) strikeServing(ctx context.Context) (string, error) {
	s := strike{blow: KillEngine, node: j.rand.IntN(joinValidators), pick: j.rand.Uint64()}
	if j.rand.IntN(4) == 0 {
		s.blow = KillComet
	}

	hit, err := j.fall(ctx, s)
	if s.blow == KillComet {
		hit = "CometBFT"
	}

	return hit, err
}

// joins makes a new testnet and lets nodes join it, under a limited number of blows. It returns how
// many blows hit.
func joins(t *testing.T, bin string, seed uint64, most int, blow func(*join, context.Context) (string, error)) (
	fallen int) {
	ctx, began := t.Context(), time.Now()
	dir, err := os.MkdirTemp("", "c") // short: for sockets
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("kept: %s", dir)
			return
		}
		require.NoError(t, os.RemoveAll(dir))
	})
	file, err := os.Create(filepath.Join(dir, "nodes.log"))
	require.NoError(t, err)
	defer file.Close()

	c := Config{Bin: bin, Dir: dir, Nodes: joinValidators, Seed: seed, Rate: 60, Profile: plan.Chaos,
		made: snapshotsEvery20}
	out, court := &output{file: file, began: began}, newCourt(began)
	n, err := begin(c, out)
	require.NoError(t, err)
	j := &join{n, rand.New(rand.NewPCG(seed, 2))}
	stopped := false
	defer func() {
		if !stopped {
			_ = n.stop()
		}
	}()

	require.NoError(t, n.beyond(ctx, 0, c.Nodes, startWithin))
	w, err := employ(c, n, court)
	require.NoError(t, err)
	defer w.close()

	require.NoError(t, n.beyond(ctx, 25, c.Nodes, startWithin), "the first snapshot")

	for i := 0; i < joinsOfOneNet && fallen < most; i++ {
		joined, err := n.Add(ctx, testnet.AddOptions{StateSync: true})
		require.NoError(t, err)
		require.NoError(t, n.reach(joined))
		var hits []string

		for k, missed := 0, 0; k < blowsOfOneJoin && fallen < most; {
			require.NoError(t, rig.Pause(ctx, time.Duration(j.rand.Int64N(int64(2500*time.Millisecond)))))
			at := n.heights(ctx)[joined]

			hit, err := blow(j, ctx)
			if err != nil { // what was to be killed is down
				missed++
				require.Less(t, missed, 100, "%v", err)
				continue
			}

			k, fallen = k+1, fallen+1
			hits = append(hits, fmt.Sprintf("%s@%d", strings.TrimPrefix(hit, "coppice/"), at))
		}

		var top uint64
		for _, h := range n.heights(ctx) {
			top = max(top, h)
		}

		last := time.Now()
		require.NoError(t, n.beyond(ctx, top, joined+1, joinWithin), "node %d does not join: %v", joined, hits)
		t.Logf("seed %d, load average %.0f: node %d joined past %d, %v after the last of %d blows: %v",
			seed, loadAverage(), joined, top, time.Since(last).Round(100*time.Millisecond), len(hits), hits)
	}

	var res Result
	w.drain(ctx, drainWithin)
	require.NoError(t, w.audit(ctx, &res))
	w.close()
	require.NoError(t, n.stop())
	stopped = true
	require.NoError(t, n.logs(w.chain))
	require.NoError(t, n.verify(ctx, bin))
	heights, compared := w.chain.seen()
	t.Logf("seed %d: %d blows, %d acknowledged, lost %d, twice %d, %d heights, %d sights of one compared, on %d "+
		"nodes, in %v",
		seed, fallen, res.Acknowledged, res.Lost, res.Twice, heights, compared, n.Nodes,
		time.Since(began).Round(time.Second))
	require.Empty(t, court.all())
	require.Empty(t, out.alarms)

	return fallen
}

func snapshotsEvery20(home string) error {
	path := filepath.Join(home, "coppice.toml")
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	const shipped = "#every_heights = 5000"
	if !strings.Contains(string(data), shipped) {
		return fmt.Errorf("%s has no %s", path, shipped)
	}

	return os.WriteFile(path, []byte(strings.Replace(string(data), shipped, "every_heights = 20", 1)), 0o644)
}
