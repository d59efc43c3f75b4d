package supervisor_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// Each report has the supervisor's place, the context, the reason and the offender.
func TestRule78_Rule79_Reports(t *testing.T) {
	p := newProbe("p")
	r, w := tree(t, supervisor.Spec{Name: "root", Intensity: many(1),
		Build: children(nested("sub", supervisor.Transient,
			supervisor.Spec{Intensity: many(1), Build: children(p.child(0))}))})
	first := <-p.starts
	started := until(t, w, 1, at("sub/p"))
	require.False(t, started.Explicit)
	require.Equal(t, first, started.Incarnation)
	require.Equal(t, "root", started.Root)
	p.end(errCrash)
	<-p.starts
	p.end(fmt.Errorf("once more: %w", errCrash))
	g := until[supervisor.GaveUp](t, w, 1, nil)
	require.Equal(t, "sub", g.Path)
	require.Equal(t, "sub: supervisor sub gave up: reached maximum restart intensity (1 in 1h0m0s): last was sub/p: "+
		"once more: crash", g.String())
	_, err := r.StartChild(ctx, supervisor.Child{ID: "x", Start: idle})
	require.NoError(t, err)
	require.True(t, until(t, w, 1, at("x")).Explicit) // external_start_no_progress_log
	seq := uint64(0)

	for _, e := range w.Events() {
		require.Equal(t, seq+1, e.Head().Seq) // in order, none missing
		seq++
		require.NotEmpty(t, e.String())
	}
}

// Names are paths. A path names the living incarnation, whatever incarnation had it before
// (simple_global_supervisor).
func TestPathsNameTheLivingIncarnation(t *testing.T) {
	p := newProbe("p")
	r, w := tree(t, supervisor.Spec{Intensity: many(9),
		Build: children(nested("sub", 0, supervisor.Spec{Intensity: many(9), Build: children(p.child(0))}))})
	last := <-p.starts

	for i, path := range []string{"sub/p", "sub", "sub/p"} {
		require.NoError(t, r.Kill(path, nil))
		now := <-p.starts
		until(t, w, i+2, at("sub/p"))
		n, ok := w.Settle(t, r).Find("sub/p")
		require.True(t, ok)
		require.Equal(t, now, n.Incarnation)
		require.Less(t, last, now)
		last = now
	}
}

// A child is named by its ID alone: no call of a Run takes an incarnation, and a path is not an ID.
func TestRule25_ChildrenAreNamedByID(t *testing.T) {
	run := reflect.TypeFor[*supervisor.Run]()
	for i := range run.NumMethod() {
		m := run.Method(i)
		for j := range m.Type.NumIn() {
			require.NotEqual(t, reflect.TypeFor[supervisor.Ref](), m.Type.In(j), m.Name)
		}
	}

	r, _ := tree(t, supervisor.Spec{
		Build: children(nested("sub", 0, supervisor.Spec{Build: children(supervisor.Child{ID: "x", Start: idle})}))})
	require.ErrorIs(t, r.TerminateChild(ctx, "sub/x"), supervisor.ErrNotFound)
	require.Equal(t, 2, len(steps(r)), "nothing has stopped")
}
