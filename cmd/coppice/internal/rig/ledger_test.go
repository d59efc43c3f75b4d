package rig

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/cmd/coppice/internal/load"
	"github.com/coppice-go/coppice/cmd/coppice/internal/memnode"
	"github.com/coppice-go/coppice/engines/backend/kv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The audit can find lost transactions and ones that were applied twice.
func TestAuditFindsLostAndTwice(t *testing.T) {
	for _, tt := range []struct {
		name        string
		betray      func(n int) int
		lost, twice int
	}{
		{"honest", nil, 0, 0},
		{"loses one", func(n int) int { return btoi(n != 5) }, 1, 0},
		{"applies two twice", func(n int) int { return 1 + btoi(n == 5 || n == 9) }, 0, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := memnode.New()
			n.Betray = tt.betray
			c := n.Serve(t)
			l := NewLedger()
			run, err := load.New(load.Config{
				Client: c, Backend: kv.Name, ValidFor: time.Minute, Next: load.Counters(load.NewPrefix()), Clients: 2,
				Batch: 5, Count: 40, Acked: l.Write,
			})
			require.NoError(t, err)
			_, err = run.Run(context.Background())
			require.NoError(t, err)

			count, err := Audit(context.Background(), c, l.Take())
			require.NoError(t, err)
			require.Equal(t, 40, count.Acknowledged)
			require.Equal(t, tt.lost, count.Lost)
			require.Equal(t, tt.twice, count.Twice)
			require.Equal(t, tt.lost+tt.twice > 0, count.Bad())
			require.Len(t, count.Examples, tt.lost+tt.twice)

			require.Empty(t, l.Take(), "a second take has only what is new")
			require.Len(t, l.All(), 40)
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// An acknowledged transaction that still waits for its block is not lost, because the ordered read
// of the audit comes after it.
func TestAuditWaitsForWhatIsStillInThePool(t *testing.T) {
	n := memnode.New()
	late, err := load.Counters(load.NewPrefix())(1)
	require.NoError(t, err)
	n.Held = late.Body
	count, err := Audit(context.Background(), n.Serve(t), []load.Item{late})
	require.NoError(t, err)
	require.False(t, count.Bad())
}

func TestGrowWaitsForAcknowledgments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger()
		grown := make(chan error, 1)
		go func() { grown <- l.Grow(t.Context(), 3) }()
		synctest.Wait()
		require.NoError(t, l.Write(make([]load.Item, 2)))
		synctest.Wait()
		require.Empty(t, grown, "two are not three")
		require.NoError(t, l.Write(make([]load.Item, 2)))
		require.NoError(t, <-grown)

		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(enough)
		require.ErrorIs(t, l.Grow(ctx, 1), enough)
	})
}
