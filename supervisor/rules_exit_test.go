package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/thejerf/suture/v4"

	"github.com/coppice-go/coppice/supervisor"
)

// permanent_*, transient_*, temporary_*
func TestRule35_Rule36_Rule37_Rule38_RestartTypes(t *testing.T) {
	orderly := fmt.Errorf("done for today: %w", supervisor.ErrShutdown)
	for _, c := range []struct {
		name                   string
		restart                supervisor.Restart
		err                    error
		class                  supervisor.Class
		again, stays, reported bool
	}{
		{"permanent_normal", supervisor.Permanent, nil, supervisor.Normal, true, true, true},
		{"permanent_shutdown", supervisor.Permanent, orderly, supervisor.Shutdown, true, true, true},
		{"permanent_abnormal", supervisor.Permanent, errCrash, supervisor.Abnormal, true, true, true},
		{"transient_normal", supervisor.Transient, nil, supervisor.Normal, false, true, false},
		{"transient_shutdown", supervisor.Transient, orderly, supervisor.Shutdown, false, true, false},
		{"transient_abnormal", supervisor.Transient, errCrash, supervisor.Abnormal, true, true, true},
		{"temporary_normal", supervisor.Temporary, nil, supervisor.Normal, false, false, false},
		{"temporary_shutdown", supervisor.Temporary, orderly, supervisor.Shutdown, false, false, false},
		{"temporary_abnormal", supervisor.Temporary, errCrash, supervisor.Abnormal, false, false, true},
	} {
		for _, strategy := range []supervisor.Strategy{supervisor.OneForOne, supervisor.RestForOne,
			supervisor.OneForAll} {
			t.Run(c.name+"/"+strategy.String(), func(t *testing.T) {
				p, sibling := newProbe("p"), newProbe("sibling")
				r, w := tree(t,
					supervisor.Spec{Strategy: strategy, Build: children(p.child(c.restart), sibling.child(0))})
				first := <-p.starts
				p.end(c.err)
				e := until(t, w, 1, exitOf("p"))
				require.Equal(t, c.reported, e.Reported)
				require.Equal(t, c.class, e.Exit.Class)
				require.Equal(t, first, e.Incarnation)

				if c.again {
					require.Less(t, first, <-p.starts)
					return
				}

				// An end without a restart touches no sibling, whatever the strategy, and does not
				// count (rule 38).
				_, err := r.WhichChild("p")

				if c.stays {
					require.NoError(t, err)
					require.Equal(t, supervisor.NotRunning, state(t, r, "p"))
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
}

// An exit that reaches the supervisor after the child was stopped or replaced is ignored (E 14).
func TestRule34_Rule59_StaleExits(t *testing.T) {
	p := newProbe("p")
	r, _ := tree(t, supervisor.Spec{Intensity: many(100), Build: children(p.child(0))})

	for range 50 {
		<-p.starts
		done := make(chan struct{})
		go func() { defer close(done); p.end(errCrash) }()
		_ = r.TerminateChild(ctx, "p")

		select {
		case <-done:
		default: // it was stopped first: take the order back
			select {
			case <-p.orders:
			case <-done:
			}
			<-done
		}

		switch _, err := r.RestartChild(ctx, "p"); {
		case errors.Is(err, supervisor.ErrRunning):
		default:
			require.NoError(t, err)
		}
	}

	<-p.starts
	require.ErrorIs(t, r.DeleteChild(ctx, "p"), supervisor.ErrRunning) // a call: what came before it is in the history
	n := 0

	for _, s := range steps(r) {
		switch s {
		case "+p":
			n++
		default:
			n--
		}
	}

	require.Equal(t, 1, n) // each start has one end, except the last
}

func TestExit_Classes(t *testing.T) {
	foreign, cancel := context.WithCancel(ctx)
	cancel()

	for _, c := range []struct {
		name  string
		serve func(context.Context) error
		check func(*testing.T, supervisor.Exit)
	}{
		{"context error while the own context is live", func(context.Context) error {
			return foreign.Err()
		}, func(t *testing.T, e supervisor.Exit) {
			require.ErrorIs(t, e.Err, context.Canceled)
			require.ErrorContains(t, e.Err, "own is live")
		}},
		{"panic", func(context.Context) error { panic("boom") }, func(t *testing.T, e supervisor.Exit) {
			require.Equal(t, "boom", e.Panic)
			require.Contains(t, e.Stack.String(), "rules_exit_test.go")
		}},
		{"panic with an error", func(context.Context) error {
			panic(errCrash)
		}, func(t *testing.T, e supervisor.Exit) { require.ErrorIs(t, e.Err, errCrash) }},
		{"panic nil", func(context.Context) error { panic(nil) }, func(t *testing.T, e supervisor.Exit) {
			var p *runtime.PanicNilError
			require.ErrorAs(t, e.Err, &p)
		}},
		{"goexit", func(context.Context) error { runtime.Goexit(); return nil }, func(t *testing.T, e supervisor.Exit) {
			require.True(t, e.Goexit)
			require.ErrorIs(t, e.Err, supervisor.ErrGoexit)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProbe("p")
			_, w := tree(t, supervisor.Spec{Build: children(p.child(supervisor.Transient))})
			<-p.starts
			p.do(c.serve)
			e := until(t, w, 1, exitOf("p")).Exit
			require.Equal(t, supervisor.Abnormal, e.Class)
			c.check(t, e)
			<-p.starts
		})
	}
}

// Suture's sentinels keep their meaning, wrapped or not.
func TestExit_SutureSentinels(t *testing.T) {
	p := newProbe("p")
	r, w := tree(t, supervisor.Spec{Build: children(p.child(supervisor.Permanent),
		supervisor.Child{ID: "x", Start: idle})})
	<-p.starts
	p.end(fmt.Errorf("enough: %w", suture.ErrDoNotRestart))
	e := until(t, w, 1, exitOf("p"))
	require.Equal(t, supervisor.Shutdown, e.Exit.Class)
	_, err := r.WhichChild("p") // removed, whatever its restart type
	require.ErrorIs(t, err, supervisor.ErrNotFound)
	require.Equal(t, 1, p.began())

	q := newProbe("q")
	s, err := supervisor.New(supervisor.Spec{
		Build: children(nested("a", 0,
			supervisor.Spec{Build: children(nested("b", 0, supervisor.Spec{Build: children(q.child(0))}))}))})
	require.NoError(t, err)
	r, err = s.Start(ctx)
	require.NoError(t, err)
	<-q.starts
	q.end(fmt.Errorf("all of it: %w", suture.ErrTerminateSupervisorTree))
	require.ErrorIs(t, r.Wait(), suture.ErrTerminateSupervisorTree) // up to the top
	require.Equal(t, 1, q.began())
}

func TestExit_Descendants(t *testing.T) {
	for name, f := range map[string]func(context.Context) error{
		"error":  func(context.Context) error { return errCrash },
		"panic":  func(context.Context) error { panic(errCrash) },
		"goexit": func(context.Context) error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			p := newProbe("p")
			_, w := tree(t, supervisor.Spec{Build: children(p.child(0))})
			<-p.starts
			p.do(func(ctx context.Context) error {
				require.NoError(t, supervisor.Go(ctx, f))
				<-ctx.Done() // its end is the parent's
				return ctx.Err()
			})
			e := until(t, w, 1, exitOf("p")).Exit
			require.Equal(t, supervisor.Abnormal, e.Class)

			if name == "goexit" {
				require.ErrorIs(t, e.Err, supervisor.ErrGoexit)
			} else {
				require.ErrorIs(t, e.Err, errCrash)
			}

			require.Equal(t, name == "panic", e.Stack != nil)
			<-p.starts
		})
	}

	// The child has not ended until its descendants have. A late failure of one is the child's. No
	// goroutine can be added afterwards.
	p := newProbe("p")
	_, w := tree(t, supervisor.Spec{Build: children(p.child(0))})
	<-p.starts
	gate := make(chan struct{})
	var kept context.Context
	p.do(func(ctx context.Context) error {
		kept = ctx
		require.NoError(t, supervisor.Go(ctx, func(ctx context.Context) error { return nil }))
		return supervisor.Go(ctx, func(ctx context.Context) error { <-ctx.Done(); <-gate; return errCrash })
	})
	require.Zero(t, len(p.starts))
	close(gate)
	require.ErrorIs(t, until(t, w, 1, exitOf("p")).Exit.Err, errCrash)
	<-p.starts
	require.ErrorIs(t, supervisor.Go(kept, func(context.Context) error { return nil }), supervisor.ErrNotRunning)
	require.ErrorIs(t, supervisor.Go(ctx, func(context.Context) error { return nil }), supervisor.ErrNotSupervised)
}

func TestMonitorAndLink(t *testing.T) {
	a, b := newProbe("a"), newProbe("b")
	r, w := tree(t, supervisor.Spec{Intensity: many(9), Build: children(a.child(0), b.child(0))})
	info, err := r.WhichChild("a")
	require.NoError(t, err)
	m := supervisor.Monitor(info.Ref)
	<-a.starts
	<-b.starts
	linked := make(chan error)
	b.do(func(ctx context.Context) error {
		linked <- supervisor.Link(ctx, info.Ref)
		<-ctx.Done()
		return ctx.Err()
	})
	require.NoError(t, <-linked)
	a.end(errCrash)
	require.ErrorIs(t, (<-m).Err, errCrash)
	require.ErrorIs(t, (<-supervisor.Monitor(info.Ref)).Err, errCrash) // also afterwards
	e := until(t, w, 1, exitOf("b")).Exit
	require.Equal(t, supervisor.Abnormal, e.Class)
	require.ErrorIs(t, e.Err, supervisor.ErrLinked)
	require.ErrorIs(t, e.Err, errCrash)
	require.ErrorIs(t, (<-supervisor.Monitor(supervisor.Ref{})).Err, supervisor.ErrNotFound)
	require.ErrorIs(t, supervisor.Link(ctx, info.Ref), supervisor.ErrNotSupervised)
	<-b.starts
	b.do(func(ctx context.Context) error { linked <- supervisor.Link(ctx, supervisor.Ref{}); return nil })
	require.ErrorIs(t, <-linked, supervisor.ErrNotFound)

	var none supervisor.Ref
	require.Zero(t, none.ID()+none.Path())
	require.Zero(t, none.Incarnation())
	require.Nil(t, none.Info())
	require.False(t, none.Alive())
}

func TestContextOutsideOfATree(t *testing.T) {
	require.Zero(t, supervisor.Path(ctx))
	require.Zero(t, supervisor.Incarnation(ctx))
	require.Nil(t, supervisor.Faults(ctx))
	supervisor.Ready(ctx)
	supervisor.SetInfo(ctx, 1)
	require.Equal(t, supervisor.Ref{}, supervisor.Self(ctx))
}

// A descendant that is told to end and returns its context's cause is no failure. The child's end
// is that of its Serve.
func TestExit_DescendantsThatObey(t *testing.T) {
	p := newProbe("p")
	_, w := tree(t, supervisor.Spec{Build: children(p.child(supervisor.Transient))})
	<-p.starts
	p.do(func(ctx context.Context) error {
		return supervisor.Go(ctx, func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
	})
	require.Equal(t, supervisor.Normal, until(t, w, 1, exitOf("p")).Exit.Class)
}

// runtime.Goexit, which neither returns nor panics, is an abnormal end like any other: in a start,
// in Serve, in Build and in a descendant.
func TestGoexit(t *testing.T) {
	exits := func() error { runtime.Goexit(); return nil }
	t.Run("in Serve", func(t *testing.T) {
		p := newProbe("p")
		_, w := tree(t, supervisor.Spec{Build: children(p.child(supervisor.Transient))})
		<-p.starts
		p.do(func(context.Context) error { return exits() })
		e := until(t, w, 1, exitOf("p"))
		require.Equal(t, supervisor.Abnormal, e.Exit.Class)
		require.True(t, e.Exit.Goexit && e.Reported)
		<-p.starts // restarted
	})

	t.Run("in a start", func(t *testing.T) {
		p := newProbe("p")
		p.before = func(n int) error {
			if n == 2 {
				return exits()
			}
			return nil
		}
		r, w := tree(t, supervisor.Spec{Intensity: many(2), Build: children(p.child(0))})
		<-p.starts
		p.end(errCrash)
		<-p.starts // the start was tried again
		require.ErrorIs(t, until[supervisor.ChildStartFailed](t, w, 1, nil).Err, supervisor.ErrGoexit)
		_, err := r.StartChild(ctx, supervisor.Child{ID: "x", Start: func(context.Context) (supervisor.Service, error) {
			return nil, exits()
		}})
		require.ErrorIs(t, err, supervisor.ErrGoexit)
	})

	t.Run("in Build", func(t *testing.T) {
		s, err := supervisor.New(supervisor.Spec{Build: func(context.Context) ([]supervisor.Child, error) {
			return nil, exits()
		}})
		require.NoError(t, err)
		require.ErrorIs(t, s.Serve(ctx), supervisor.ErrGoexit)
	})

	t.Run("in a descendant", func(t *testing.T) {
		p := newProbe("p")
		_, w := tree(t, supervisor.Spec{Build: children(p.child(0))})
		<-p.starts
		p.do(func(ctx context.Context) error {
			require.NoError(t, supervisor.Go(ctx, func(context.Context) error { return exits() }))
			<-ctx.Done()
			return ctx.Err()
		})
		require.ErrorIs(t, until(t, w, 1, exitOf("p")).Exit.Err, supervisor.ErrGoexit)
		<-p.starts
	})
}
