package supervisor_test

import (
	"context"
	"math"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// partition_supervisor_test.exs
func TestPartition(t *testing.T) {
	start := func(ctx context.Context, i int) (supervisor.Service, error) {
		supervisor.SetInfo(ctx, i)
		return idle(ctx)
	}

	for _, bad := range []supervisor.PartitionSpec{
		{Start: start}, {Partitions: 1}, {Partitions: 1, Start: start, Child: supervisor.Child{Significant: true}},
		{Partitions: 1, Start: start, Intensity: supervisor.Intensity{Max: 1}},
	} {
		_, err := supervisor.NewPartition(bad)
		require.ErrorIs(t, err, supervisor.ErrSpec)
	}

	p, err := supervisor.NewPartition(supervisor.PartitionSpec{Name: "p", Partitions: 4, Start: start,
		Intensity: many(9)})
	require.NoError(t, err)
	_, err = p.Child(1)
	require.ErrorIs(t, err, supervisor.ErrNotRunning)
	r, w := tree(t, supervisor.Spec{
		Build: children(supervisor.Child{ID: "p", Start: func(context.Context) (supervisor.Service, error) {
			return p, nil
		}})})

	for _, key := range []any{6, int32(6), int64(6), uint(6), uint32(6), uint64(6), -2} {
		require.Equal(t, 2, p.Route(key), "%T", key)
	}

	for _, key := range []any{"key", []byte("key"), 1.5, struct{ a, b int }{1, 2}} {
		require.Equal(t, p.Route(key), p.Route(key))
		require.Less(t, p.Route(key), 4)
	}

	require.Panics(t, func() { p.Route([]int{1}) })
	ref, err := p.Child(7)
	require.NoError(t, err)
	require.Equal(t, "p/3", ref.Path())
	require.Equal(t, 3, ref.Info())
	n, err := p.CountChildren()
	require.NoError(t, err)
	require.Equal(t, supervisor.Counts{Specs: 4, Active: 4, Workers: 4}, n)

	require.ErrorIs(t, p.Resize(ctx, 5), supervisor.ErrSpec)
	require.ErrorIs(t, p.Resize(ctx, -1), supervisor.ErrSpec)
	require.NoError(t, p.Resize(ctx, 2))
	require.Equal(t, 2, p.Partitions())
	ref, err = p.Child(7)
	require.NoError(t, err)
	require.Equal(t, "1", ref.ID())
	require.NoError(t, p.Resize(ctx, 0))
	require.Equal(t, -1, p.Route("x"))
	_, err = p.Child("x")
	require.ErrorIs(t, err, supervisor.ErrNotFound)
	require.NoError(t, p.Resize(ctx, 3))

	for i := range 3 {
		_, err := p.Child(i)
		require.NoError(t, err)
	}

	require.NoError(t, p.TerminateChild(ctx, "1"))
	_, err = p.Child(1)
	require.ErrorIs(t, err, supervisor.ErrNotRunning)
	require.NoError(t, r.Kill("p", nil))
	until(t, w, 2, at("p"))
	require.Equal(t, 4, p.Partitions()) // as specified

	broken, err := supervisor.NewPartition(supervisor.PartitionSpec{Partitions: 1,
		Child: supervisor.Child{Backoff: supervisor.Backoff{Min: 1 << 50}}, Start: start})
	require.NoError(t, err)
	_, err = broken.Start(ctx)
	require.NoError(t, err)
	require.NoError(t, broken.Kill(strconv.Itoa(0), nil))
	m, err := broken.WhichChild("0")
	require.NoError(t, err)
	<-supervisor.Monitor(m.Ref)
	require.Error(t, broken.DeleteChild(ctx, "0"))
	_, err = broken.Child(0)
	require.ErrorIs(t, err, supervisor.ErrRestarting)
	require.NoError(t, broken.Stop(ctx))
	require.ErrorIs(t, broken.Resize(ctx, 0), supervisor.ErrNotRunning)
}

func newPartition(t *testing.T, n int) (*supervisor.Partition, *supervisor.Run) {
	t.Helper()
	p, err := supervisor.NewPartition(supervisor.PartitionSpec{Name: "p", Partitions: n,
		Start: func(ctx context.Context, _ int) (supervisor.Service, error) {
			return idle(ctx)
		}})
	require.NoError(t, err)
	r, err := p.Start(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Stop(ctx)) })

	return p, r
}

func runs(t *testing.T, p *supervisor.Partition) int {
	t.Helper()
	n, err := p.CountChildren()
	require.NoError(t, err)
	return n.Active
}

// A Resize that was interrupted can be repeated, and Partitions returns the number that run.
func TestPartition_ResizeInterrupted(t *testing.T) {
	p, _ := newPartition(t, 4)
	over, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, p.Resize(over, 1), context.Canceled)
	require.Equal(t, runs(t, p), p.Partitions())
	require.NoError(t, p.Resize(ctx, 1))
	require.Equal(t, 1, runs(t, p))
	require.Equal(t, 1, p.Partitions())
}

// Of concurrent Resizes, the one that began last decides how many partitions run.
func TestPartition_ResizeConcurrently(t *testing.T) {
	p, _ := newPartition(t, 4)
	for i := range 100 {
		var wg sync.WaitGroup
		for k := range 4 {
			wg.Go(func() { _ = p.Resize(ctx, 1+(i+k)%4) })
		}
		wg.Wait()
		require.Equal(t, runs(t, p), p.Partitions())
	}
}

// Route takes integers of all types by their remainder.
func TestPartition_RouteIntegers(t *testing.T) {
	p, _ := newPartition(t, 3)
	type id int
	type flags uint8

	for _, key := range []any{5, int8(5), int16(5), int32(5), int64(5), uint(5), uint8(5), uint16(5), uint32(5),
		uint64(5), uintptr(5), id(5), flags(5), id(-1), int8(-4)} {
		require.Equal(t, 2, p.Route(key), "%T(%v)", key, key)
	}

	require.Equal(t, 0, p.Route(int64(math.MinInt64)+2))
	require.Less(t, p.Route(nil), 3)
}
