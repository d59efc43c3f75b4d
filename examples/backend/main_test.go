package main

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/backend/backendtest"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/nodetest"
	"github.com/coppice-go/coppice/node/plan"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheProgramRuns(t *testing.T) { require.NoError(t, run()) }

// Engines are killed while money moves, and the power is cut. No money is made, none is lost, and
// every acknowledged transfer is made once.
func TestMoneyIsNeitherMadeNorLost(t *testing.T) {
	const accounts, each, total = 5, 20, 1000
	n := nodetest.Start(t, nodetest.With(node.WithBackend(Bank{})), nodetest.Profile(plan.Chaos))
	c := n.Client()
	mint, err := c.SubmitWait(t.Context(), Tx(Transfer{To: "0", Amount: total}))
	require.NoError(t, err)
	require.Equal(t, logv1.Code_CODE_OK, mint.Code)

	var wg sync.WaitGroup

	for from := range accounts {
		wg.Go(func() {
			for i := range each {
				_, err := c.SubmitWait(t.Context(),
					Tx(Transfer{From: fmt.Sprint(from), To: fmt.Sprint((from + 1 + i%4) % accounts),
						Amount: uint64(1 + i)}))
				if err != nil {
					t.Errorf("transfer %d of %d: %v", i, from, err)
				}
			}
		})
	}

	for _, path := range []string{"ordering", "storage", "mempool/pool", "mempool/workers"} {
		n.Cut("coppice/node/transactions/" + path)
	}

	n.Crash()
	wg.Wait()

	sum := uint64(0)

	for a := range accounts {
		holds, err := Balance(t.Context(), c, fmt.Sprint(a))
		require.NoError(t, err)
		sum += holds
	}

	require.EqualValues(t, total, sum)
}

func TestRefusals(t *testing.T) {
	for body, says := range map[string]string{
		"":                                     "transfer: 0 bytes, want an amount and two names",
		string(Transfer{"a", "", 1}.Encode()):  "names of 1 and 0 bytes",
		string(Transfer{"a", "a", 1}.Encode()): `from "a" to itself`,
		string(Transfer{"a", "b", 0}.Encode()): "of nothing",
	} {
		require.ErrorContains(t, Bank{}.Check([]byte(body)), says)
	}

	_, err := new(backendtest.State).Execute(Bank{}, Transfer{"a", "b", 1}.Encode())
	require.ErrorIs(t, err, ErrPoor)
}
