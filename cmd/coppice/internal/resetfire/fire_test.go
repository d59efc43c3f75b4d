package resetfire

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/solo"
)

func TestMain(m *testing.M) {
	consensus.Register(solo.Kind{}, comet.Kind{})
	goleak.VerifyTestMain(m)
}

// Four nodes are reset again and again under fire. Items 49, 54 and 57. COPPICE_RESET_FIRE is how
// long it lasts, COPPICE_RESET_KILLS the pause between two kills (0s: no faults, for the figures of
// item 57), COPPICE_RESET_SEED chooses them. The short form has no kills.
func TestResetsUnderFire(t *testing.T) {
	long, err := time.ParseDuration(env("COPPICE_RESET_FIRE", "8s"))
	require.NoError(t, err)
	kills, err := time.ParseDuration(env("COPPICE_RESET_KILLS", "1500ms"))
	require.NoError(t, err)
	seed, err := strconv.ParseUint(env("COPPICE_RESET_SEED", "1"), 10, 64)
	require.NoError(t, err)
	if os.Getenv("COPPICE_RESET_FIRE") == "" {
		kills = 0
	}

	dir, err := os.MkdirTemp("", "fire") // t.TempDir is too long for a socket's path
	require.NoError(t, err)
	bin := filepath.Join(dir, "coppice")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin,
		"github.com/coppice-go/coppice/cmd/coppice").CombinedOutput()
	require.NoError(t, err, string(out))

	began := time.Now()
	res, err := Run(t.Context(), Config{Bin: bin, Dir: filepath.Join(dir, "net"), Nodes: 4, Seed: seed, Duration: long,
		Every: 100 * time.Millisecond, Kills: kills, Aimed: kills > 0, Rate: 40,
		Doing: func(what string) { t.Logf("%7.1f %s", time.Since(began).Seconds(), what) }})
	t.Log(summary(res))
	if !t.Failed() && err == nil && len(res.Violations) == 0 {
		os.RemoveAll(dir)
	} else {
		t.Logf("the nodes' homes and output are in %s", dir)
	}
	require.NoError(t, err)
	require.Empty(t, res.Violations)
	require.NotZero(t, res.Resets)
	require.NotZero(t, res.Acknowledged)
	require.NotZero(t, res.Votes)
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func summary(r Result) string {
	slices.Sort(r.Took)
	p50, most := time.Duration(0), time.Duration(0)
	if n := len(r.Took); n > 0 {
		p50, most = r.Took[n/2], r.Took[n-1]
	}
	return fmt.Sprintf("%d resets, %d kills, %d pauses, %d cuts; %d times a node left with a peer's certificate, "+
		"%d times one took the state at a reset; %d acknowledged, %d unknown; %d heights and %d votes compared; "+
		"from F to the first block p50 %v, max %v (%d measured); %d violations", r.Resets, r.Kills, r.Pauses, r.Cuts,
		r.ByPeer, r.Rejoined, r.Acknowledged, r.Unknown, r.Heights, r.Votes, p50.Round(time.Millisecond),
		most.Round(time.Millisecond), len(r.Took), len(r.Violations))
}
