package supervisor_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

var ctx = context.Background()

func TestRule36_RestartTypes(t *testing.T) {
	shutdown := supervisor.ErrShutdown
	for _, c := range []struct {
		name     string
		restart  supervisor.Restart
		err      error
		again    bool
		stays    bool
		reported bool
	}{
		{"permanent_normal", supervisor.Permanent, nil, true, true, true},
		{"permanent_shutdown", supervisor.Permanent, shutdown, true, true, true},
		{"permanent_abnormal", supervisor.Permanent, errCrash, true, true, true},
		{"transient_normal", supervisor.Transient, nil, false, true, false},
		{"transient_shutdown", supervisor.Transient, shutdown, false, true, false},
		{"transient_abnormal", supervisor.Transient, errCrash, true, true, true},
		{"temporary_normal", supervisor.Temporary, nil, false, false, false},
		{"temporary_shutdown", supervisor.Temporary, shutdown, false, false, false},
		{"temporary_abnormal", supervisor.Temporary, errCrash, false, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, sibling := newProbe("p"), newProbe("sibling")
			r, w := tree(t, supervisor.Spec{Build: supervisor.Children(sibling.child(supervisor.Permanent), p.child(c.restart))})
			first := <-p.starts
			p.end(c.err)
			e := until(t, w, 1, func(e supervisor.ChildExited) bool { return e.Path == "p" })
			require.Equal(t, c.reported, e.Reported)
			require.Equal(t, first, e.Incarnation)
			if c.again {
				require.NotEqual(t, first, <-p.starts)
				return
			}
			info, err := r.WhichChild("p")
			if c.stays {
				require.NoError(t, err)
				require.Equal(t, supervisor.NotRunning, info.State)
			} else {
				require.ErrorIs(t, err, supervisor.ErrNotFound)
				_, err = r.StartChild(ctx, p.child(c.restart)) // the ID is free at once
				require.NoError(t, err)
			}
			require.Equal(t, 1, sibling.began())
			require.Zero(t, r.Tree().InWindow)
		})
	}
}

func TestRule50_OneForAll(t *testing.T) {
	a, b, c := newProbe("a"), newProbe("b"), newProbe("c")
	r, w := tree(t, supervisor.Spec{
		Strategy: supervisor.OneForAll, Intensity: many(1),
		Build: supervisor.Children(a.child(0), b.child(0), c.child(0)),
	})
	<-a.starts
	<-b.starts
	<-c.starts
	b.end(errCrash)
	<-a.starts
	<-b.starts
	<-c.starts
	until(t, w, 2, at("c"))
	var order []string
	for _, e := range r.Events() {
		switch e := e.(type) {
		case supervisor.ChildStopped, supervisor.ChildStarted:
			order = append(order, e.(supervisor.Event).String()[:10])
		}
	}
	require.Equal(t, []string{"a: started", "b: started", "c: started", "c: stopped", "a: stopped", "a: started", "b: started", "c: started"}, order)
	a.end(errCrash)
	require.ErrorIs(t, r.Wait(), supervisor.ErrMaxIntensity)
	require.ErrorIs(t, r.Err(), supervisor.ErrShutdown)
	require.ErrorIs(t, r.Err(), errCrash)
}

func TestSection15_PanicAndGoexit(t *testing.T) {
	p := newProbe("p")
	_, w := tree(t, supervisor.Spec{Intensity: many(5), Build: supervisor.Children(p.child(0))})
	<-p.starts
	p.do(func(context.Context) error { panic("boom") })
	e := until[supervisor.ChildExited](t, w, 1, nil)
	require.Equal(t, "boom", e.Exit.Panic)
	require.Contains(t, string(e.Exit.Stack), "restart_test.go")
	<-p.starts
	p.do(func(context.Context) error { runtime.Goexit(); return nil })
	e = until[supervisor.ChildExited](t, w, 2, nil)
	require.True(t, e.Exit.Goexit)
	require.ErrorIs(t, e.Exit.Err, supervisor.ErrGoexit)
	<-p.starts
}

func TestDynamic_StartAndEnd(t *testing.T) {
	d, err := supervisor.NewDynamic(supervisor.DynamicSpec[string]{
		Name: "d", Restart: supervisor.Temporary,
		Start: func(ctx context.Context, arg string) (supervisor.Service, error) {
			return supervisor.ServiceFunc(func(ctx context.Context) error {
				if arg == "wait" {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}), nil
		},
	})
	require.NoError(t, err)
	r, _ := tree(t, supervisor.Spec{Build: supervisor.Children(supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) { return d, nil }})})
	for range 1000 {
		ref, err := d.StartChild(ctx, "", "x")
		require.NoError(t, err)
		require.Equal(t, supervisor.Normal, (<-supervisor.Monitor(ref)).Class)
	}
	ref, err := d.StartChild(ctx, "w", "wait")
	require.NoError(t, err)
	require.Equal(t, "d/w", ref.Path())
	c, err := d.CountChildren()
	require.NoError(t, err)
	require.Equal(t, supervisor.Counts{Specs: 1, Active: 1, Workers: 1}, c)
	require.NoError(t, r.Kill("d/w", errCrash))
	x := <-supervisor.Monitor(ref)
	require.ErrorIs(t, x.Err, supervisor.ErrKilled)
	require.ErrorIs(t, x.Err, errCrash)
	t.Log(r.Tree())
}
