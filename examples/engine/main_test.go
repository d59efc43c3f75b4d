package main

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/nodetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheProgramRuns(t *testing.T) { require.NoError(t, run()) }

// The counter and the engines that it follows are killed, and the power is cut. The counter counts
// every block and transaction once.
func TestTheCounterCountsRightAfterEveryKill(t *testing.T) {
	n := nodetest.Start(t, nodetest.With(node.WithEngine(Counter)))
	c := n.Client()
	added := uint64(0)
	counts := func() {
		t.Helper()
		for range 3 {
			require.NoError(t, Add(t.Context(), c))
			added++
		}

		n.Await("a right count", func() bool {
			counted, err := Ask(t.Context(), n.Node())
			require.NoError(t, err)
			require.LessOrEqual(t, counted.Transactions, added, "none is counted twice")
			return counted.Transactions == added
		})
	}
	counts()

	for _, path := range []string{"coppice/node/engines/counter", "coppice/node/transactions/storage",
		"coppice/node/logger"} {
		n.Cut(path)
		counts()
	}

	n.Restart()
	counts()
	n.Crash()
	counts()
}
