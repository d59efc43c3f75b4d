package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus/comet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// runUnfit runs a node with a CometBFT that ends by itself, until the node does.
func runUnfit(t *testing.T, home, child string) (*suptest.Recorder, error) {
	t.Helper()
	c, err := config.Load(home)
	require.NoError(t, err)
	c.Profile = plan.Default
	rec := suptest.NewRecorder()
	n, err := New(home, c, WithObserver(rec), WithConsensus(comet.Kind{Command: []string{"/bin/sh", "-c", child}}))
	if err != nil {
		return rec, err
	}

	return rec, n.Run(t.Context())
}

// A CometBFT that no restart can mend ends the node at once, with a reason and the exit code of
// that kind of reason. (Before, its supervisor gave up after ten restarts in twelve seconds, and
// the one above, which counts ten in a minute, never did.)
func TestACometBFTThatCannotStartEndsTheNode(t *testing.T) {
	change := func(file string, edit func(string) string) func(*testing.T, string) {
		return func(t *testing.T, home string) {
			path := filepath.Join(comethome.Dir(home), file)
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, []byte(edit(string(data))), 0o600))
		}
	}
	none := func(*testing.T, string) {}
	for _, c := range []struct {
		name   string
		damage func(*testing.T, string)
		child  string
		code   int
		says   string
	}{
		{"its data", none, "echo coppice: what is damaged >&2; exit 5", exit.Damage, "what is damaged"},
		{"its configuration", none, "echo coppice: what is wrong >&2; exit 3", exit.Config, "what is wrong"},
		{"double_sign_check_height", change("config/config.toml", func(s string) string {
			return strings.Replace(s, "double_sign_check_height = 0", "double_sign_check_height = 10", 1)
		}), "cat", exit.Config, "double_sign_check_height = 10, want 0"},
		{"the signing state", change("data/priv_validator_state.json", func(string) string {
			return ""
		}), "cat", exit.Damage, "sign twice"},
		{"one genesis of two", func(t *testing.T, dir string) {
			g, err := home.ReadGenesis(dir)
			require.NoError(t, err)
			set, err := comethome.ReadGenesis(comethome.Dir(dir))
			require.NoError(t, err)
			g.Limits.MaxTxOps++
			require.NoError(t, comethome.Carry(comethome.Dir(dir), g, comethome.Genesis{Validators: set.Validators}))
		}, "cat", exit.Config, "from one place"},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := initABCI(t)
			c.damage(t, home)
			rec, err := runUnfit(t, home, c.child)
			require.ErrorContains(t, err, c.says)
			require.Equal(t, c.code, exit.Code(err), "%v", err)
			starts := 0

			for _, e := range rec.Events() {
				if s, ok := e.(supervisor.ChildStarted); ok && s.Path == "coppice/node/router" {
					starts++
				}
			}

			require.LessOrEqual(t, starts, 1, "starts of the node")
		})
	}
}

// A validator that starts as a node without peers commits blocks that its network never sees, and
// no longer belongs to that network.
func TestAHomeOfCometBFTsDoesNotStartAlone(t *testing.T) {
	dir := initABCI(t)
	c, err := config.Load(dir)
	require.NoError(t, err)
	c.Consensus.Kind = solo.Name
	_, err = New(dir, c)
	require.ErrorContains(t, err, "there is a CometBFT home in")
	require.Equal(t, exit.Config, exit.Code(err))

	dir = t.TempDir() // and the other way round
	_, err = home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	c, err = config.Load(dir)
	require.NoError(t, err)
	c.Consensus.Kind = comet.Name
	n, err := New(dir, c)
	if err == nil {
		err = n.Run(t.Context())
	}

	require.ErrorIs(t, err, comethome.ErrHome)
	require.Equal(t, exit.Config, exit.Code(err))
}

// For each kind of consensus, the node runs the tree that its configuration specifies.
func TestTheSpecifiedTreeIsTheOneThatRuns(t *testing.T) {
	alone := t.TempDir()
	_, err := home.Init(alone, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0"})
	require.NoError(t, err)

	for home, watched := range map[string]bool{alone: false, initABCI(t): true} {
		c, err := config.Load(home)
		require.NoError(t, err)
		n, err := New(home, c)
		require.NoError(t, err)
		require.Equal(t, c.Plan(), n.plan)
		require.Equal(t, watched, strings.Contains(c.Plan().String(), "watchdog"))
		require.NoError(t, n.Close())
	}
}
