package nodetest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/nodetest"
	"github.com/coppice-go/coppice/node/offline"
)

func add(t testing.TB, c *client.Client, key string) {
	t.Helper()
	body, err := kv.Encode(kv.Add([]byte(key), 1))
	require.NoError(t, err)
	_, err = c.SubmitWait(t.Context(), chain.NewTx(kv.Name, body, time.Minute))
	require.NoError(t, err)
}

func get(t testing.TB, c *client.Client, key string) string {
	t.Helper()
	v, _, err := c.Get(t.Context(), []byte(key))
	require.NoError(t, err)
	return string(v)
}

// One client follows the node through kills, restarts and crashes, and nothing that was
// acknowledged is lost (I1).
func TestANodeInMemoryGoesThroughEverything(t *testing.T) {
	for _, keep := range []int{0, 50, 100} {
		n := nodetest.Start(t, nodetest.KeepUnsynced(keep, 1))
		c := n.Client()
		add(t, c, "n")
		n.Cut("coppice/node/transactions/ordering")
		add(t, c, "n")
		n.Restart()
		add(t, c, "n")
		n.Crash()
		require.Equal(t, "3", get(t, c, "n"))
		add(t, c, "n")
		require.Equal(t, "4", get(t, c, "n"))
		require.Equal(t, 3, n.Lives())
	}
}

func TestANodeOnDiskCanBeVerified(t *testing.T) {
	n := nodetest.Start(t, nodetest.OnDisk(), nodetest.Genesis(func(g *chain.Genesis) { g.Limits.MaxTxOps = 7 }))
	add(t, n.Client(), "n")
	n.Stop()
	v := n.Verify(offline.VerifyOptions{})
	require.EqualValues(t, 1, v.Txs)
	require.Equal(t, "test", v.ChainID)

	again := nodetest.Start(t, nodetest.Home(n.Home()), nodetest.Config(func(c *config.Config) { c.Pool.MaxTxs = 5 }))
	require.Equal(t, "1", get(t, again.Client(), "n"))
}

// A node that gives up fails the test, unless the test asks how it ended.
func TestANodeThatGivesUp(t *testing.T) {
	n := nodetest.Start(t)
	add(t, n.Client(), "n")
	n.Kill("coppice")
	require.Equal(t, exit.GaveUp, exit.Code(n.AwaitEnd()))
	n.Begin()
	require.Equal(t, "1", get(t, n.Client(), "n"))

	quiet := &exampleTB{TB: t}
	n = nodetest.Start(quiet)
	n.Kill("coppice")
	n.Await("the end", func() bool {
		_, running := n.Supervisor().Tree().Find("coppice")
		return !running
	})
	quiet.finish()
	require.Contains(t, strings.Join(quiet.errors, "\n"), "the node ended by itself: gave up")
}
