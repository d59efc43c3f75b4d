package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// sup_start_ignore_init, sup_start_error_return, sup_start_fail
func TestRule11_Rule12_Build(t *testing.T) {
	start := func(build func(context.Context) ([]supervisor.Child, error)) error {
		s, err := supervisor.New(supervisor.Spec{Name: "s", Build: build})
		require.NoError(t, err)
		_, err = s.Start(ctx)
		return err
	}
	ignore := func(context.Context) ([]supervisor.Child, error) { return nil, supervisor.ErrIgnore }
	require.ErrorIs(t, start(ignore), supervisor.ErrIgnore)
	require.ErrorIs(t, start(func(context.Context) ([]supervisor.Child, error) { return nil, errCrash }), errCrash)
	var p *supervisor.PanicError
	require.ErrorAs(t, start(func(context.Context) ([]supervisor.Child, error) { panic("init") }), &p)
	require.Equal(t, "init", p.Value)

	s, err := supervisor.New(supervisor.Spec{Build: ignore})
	require.NoError(t, err)
	require.NoError(t, s.Serve(ctx)) // as a process that ends normally

	r, _ := tree(t, supervisor.Spec{
		Build: children(nested("sub", supervisor.Permanent, supervisor.Spec{Build: ignore}))})
	require.Equal(t, []string{"0sub"}, steps(r))
	require.Equal(t, supervisor.NotRunning, state(t, r, "sub"))
}

// A Build that hangs can be stopped. A Build that ignores the stop is an orphan.
func TestRule12_BuildHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		w := suptest.NewRecorder()
		s, err := supervisor.New(supervisor.Spec{Observers: []supervisor.Observer{w},
			Build: func(context.Context) ([]supervisor.Child, error) {
				<-release
				return nil, nil
			}})
		require.NoError(t, err)
		c, cancel := context.WithCancel(ctx)
		done := make(chan error)
		go func() { done <- s.Serve(c) }()
		synctest.Wait()
		require.Equal(t, supervisor.Starting, s.Tree().State)
		cancel()
		require.ErrorIs(t, <-done, supervisor.ErrOrphan)
		require.Len(t, s.Orphans(), 1)
		close(release)
		until[supervisor.OrphanEnded](t, w, 1, nil)
		require.Empty(t, s.Orphans())
	})
}

// order_of_children
func TestRule13_Rule62_StartsInOrderStopsInReverse(t *testing.T) {
	a, b, c := newProbe("a"), newProbe("b"), newProbe("c")
	ready := make(chan struct{})
	slow := supervisor.Child{ID: "b", Ack: supervisor.AckReady,
		Start: supervisor.Start(func(ctx context.Context) error {
			<-ready
			require.Zero(t, c.began()) // no child starts before the previous one has acknowledged
			supervisor.Ready(ctx)
			supervisor.Ready(ctx)
			<-ctx.Done()
			return ctx.Err()
		})}
	_ = b
	s, err := supervisor.New(supervisor.Spec{Build: children(a.child(0), slow, c.child(0))})
	require.NoError(t, err)
	go func() { <-a.starts; close(ready) }()
	r, err := s.Start(ctx)
	require.NoError(t, err)
	require.NoError(t, r.Stop(ctx))
	require.Equal(t, []string{"+a", "+b", "+c", "-c", "-b", "-a"}, steps(r))
}

// extra_return, sup_start_child_returns_error
func TestRule14_StartReturns(t *testing.T) {
	r, _ := tree(t, supervisor.Spec{})
	ref, err := r.StartChild(ctx,
		supervisor.Child{ID: "info", Start: func(ctx context.Context) (supervisor.Service, error) {
			supervisor.SetInfo(ctx, 42)
			return idle(ctx)
		}})
	require.NoError(t, err)
	require.Equal(t, 42, ref.Info())

	for name, start := range map[string]supervisor.StartFunc{
		"error":  func(context.Context) (supervisor.Service, error) { return nil, errCrash },
		"panic":  func(context.Context) (supervisor.Service, error) { panic(errCrash) },
		"nobody": func(context.Context) (supervisor.Service, error) { return nil, nil },
	} {
		_, err := r.StartChild(ctx, supervisor.Child{ID: name, Start: start})
		var failed *supervisor.StartError
		require.ErrorAs(t, err, &failed)
		require.Equal(t, name, failed.ID)
		if name != "nobody" {
			require.ErrorIs(t, err, errCrash)
		}

		_, err = r.WhichChild(name) // nothing is stored
		require.ErrorIs(t, err, supervisor.ErrNotFound)
	}

	early := supervisor.Child{ID: "early", Ack: supervisor.AckReady,
		Start: supervisor.Start(func(context.Context) error {
			return nil
		})}
	_, err = r.StartChild(ctx, early)
	require.ErrorIs(t, err, supervisor.ErrEndedBeforeReady)
}

func TestRule15_StartIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		obeys := supervisor.Child{ID: "hung", StartTimeout: time.Second,
			Start: func(ctx context.Context) (supervisor.Service, error) {
				<-ctx.Done()
				return nil, context.Cause(ctx)
			}}
		s, err := supervisor.New(supervisor.Spec{Build: children(obeys)})
		require.NoError(t, err)
		begin := time.Now()
		_, err = s.Start(ctx)
		require.ErrorIs(t, err, supervisor.ErrStartTimeout)
		require.Equal(t, time.Second, time.Since(begin))

		// A start that ignores its context too is an orphan after its shutdown time.
		release := make(chan struct{})
		s, err = supervisor.New(
			supervisor.Spec{Build: children(supervisor.Child{ID: "deaf",
				Start: func(context.Context) (supervisor.Service, error) {
					<-release
					return nil, nil
				}})})
		require.NoError(t, err)
		begin = time.Now()
		_, err = s.Start(ctx)
		require.ErrorIs(t, err, supervisor.ErrStartTimeout)
		require.ErrorIs(t, err, supervisor.ErrOrphan)
		require.Equal(t, supervisor.DefaultStartTimeout+supervisor.DefaultShutdown, time.Since(begin))
		require.Len(t, s.Orphans(), 1)
		close(release)
		synctest.Wait()
		require.Empty(t, s.Orphans())
	})
}

// The stop of the supervisor ends a start that is under way.
func TestRule15_StopDuringStart(t *testing.T) {
	started := make(chan struct{})
	a, c := newProbe("a"), newProbe("c")
	s, err := supervisor.New(supervisor.Spec{
		Build: children(a.child(0),
			supervisor.Child{ID: "b", StartTimeout: supervisor.Infinity,
				Start: func(ctx context.Context) (supervisor.Service, error) {
					close(started)
					<-ctx.Done()
					return nil, ctx.Err()
				}}, c.child(0))})
	require.NoError(t, err)
	cc, cancel := context.WithCancelCause(ctx)
	done := make(chan error)
	go func() { done <- s.Serve(cc) }()
	<-started
	require.Equal(t, supervisor.Starting, state(t, s, "b")) // snapshots and kills do not wait
	cancel(errCrash)
	err = <-done
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, errCrash)
	require.Zero(t, c.began())
	require.Equal(t, []string{"+a", "?b", "-a"}, steps(s))
}

// sup_start_ignore_child, sup_start_ignore_temporary_child(_start_child)
func TestRule16_Ignore(t *testing.T) {
	ignored := func(id string, r supervisor.Restart) supervisor.Child {
		return supervisor.Child{ID: id, Restart: r, Start: func(context.Context) (supervisor.Service, error) {
			return nil, supervisor.ErrIgnore
		}}
	}

	r, _ := tree(t, supervisor.Spec{Build: children(ignored("p", supervisor.Permanent),
		ignored("t", supervisor.Temporary), supervisor.Child{ID: "w", Start: idle})})
	n, err := r.CountChildren()
	require.NoError(t, err)
	require.Equal(t, supervisor.Counts{Specs: 2, Active: 1, Workers: 2}, n)
	require.Equal(t, supervisor.NotRunning, state(t, r, "p"))

	for id, restart := range map[string]supervisor.Restart{"p2": supervisor.Permanent, "t2": supervisor.Temporary} {
		ref, err := r.StartChild(ctx, ignored(id, restart))
		require.NoError(t, err)
		require.Zero(t, ref)
		_, err = r.WhichChild(id)
		require.Equal(t, restart == supervisor.Temporary, errors.Is(err, supervisor.ErrNotFound))
	}

	ref, err := r.RestartChild(ctx, "p")
	require.NoError(t, err)
	require.Zero(t, ref)
}

func TestRule17_FailedStartRollsBack(t *testing.T) {
	a, b, c, d := newProbe("a"), newProbe("b"), newProbe("c"), newProbe("d")
	c.before = func(int) error { return errCrash }
	s, err := supervisor.New(supervisor.Spec{Intensity: many(5),
		Build: children(a.child(0), b.child(0), c.child(0), d.child(0))})
	require.NoError(t, err)
	_, err = s.Start(ctx)
	var failed *supervisor.StartError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, "c", failed.Path)
	require.ErrorIs(t, err, errCrash)
	require.Equal(t, []string{"+a", "+b", "?c", "-b", "-a"}, steps(s))
	require.Equal(t, 1, c.began()) // no second attempt
	require.Zero(t, d.began())
	_, err = s.CountChildren()
	require.ErrorIs(t, err, supervisor.ErrNotRunning)
}

// faulty_application_shutdown
func TestRule18_FailedStartsNest(t *testing.T) {
	faulty := newProbe("faulty")
	faulty.before = func(int) error { return errCrash }
	s, err := supervisor.New(supervisor.Spec{Name: "root", Build: children(
		nested("a", supervisor.Permanent,
			supervisor.Spec{Build: children(nested("b", supervisor.Permanent,
				supervisor.Spec{Build: children(faulty.child(0))}))}),
	)})
	require.NoError(t, err)
	_, err = s.Start(ctx)
	require.EqualError(t, err,
		`child "a" failed to start: child "b" failed to start: child "faulty" failed to start: crash`)
	var failed *supervisor.StartError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, "a", failed.Path)
	require.Equal(t, "a/b/faulty", failed.Root().Path)
}

// Only a start or a Build that returns ErrIgnore is ignored (OTP rules 12 and 16). A child that
// ends with it later is not ignored, nor is one that panics with it.
func TestIgnoreIsOnlyReturned(t *testing.T) {
	ignore := fmt.Errorf("wrapped: %w", supervisor.ErrIgnore)
	never := supervisor.Intensity{Period: time.Hour}
	t.Run("an exit", func(t *testing.T) {
		p := newProbe("p")
		r, _ := tree(t, supervisor.Spec{Intensity: never, Build: children(p.child(supervisor.Permanent))})
		<-p.starts
		p.end(ignore)
		require.ErrorIs(t, r.Wait(), supervisor.ErrMaxIntensity)
		s, err := supervisor.New(supervisor.Spec{Intensity: never,
			Build: children(supervisor.Child{ID: "a", Start: supervisor.Start(func(context.Context) error {
				return ignore
			})})})
		require.NoError(t, err)
		require.ErrorIs(t, s.Serve(ctx), supervisor.ErrMaxIntensity, "Serve of a root that gave up")
	})

	bad := supervisor.Child{ID: "a", Start: func(context.Context) (supervisor.Service, error) { panic(ignore) }}
	for where, spec := range map[string]supervisor.Spec{
		"a panic in a start": {Build: children(bad)},
		"a panic in a start, below": {
			Build: children(nested("n", supervisor.Permanent, supervisor.Spec{Build: children(bad)}))},
		"a panic in Build": {Build: func(context.Context) ([]supervisor.Child, error) { panic(ignore) }},
		"a panic in Build, below": {Build: children(nested("n", supervisor.Permanent, supervisor.Spec{
			Build: func(context.Context) ([]supervisor.Child, error) { panic(ignore) }}))},
	} {
		t.Run(where, func(t *testing.T) {
			s, err := supervisor.New(spec)
			require.NoError(t, err)
			r, err := s.Start(ctx)
			var panicked *supervisor.PanicError
			require.ErrorAs(t, err, &panicked)
			require.Nil(t, r)
			require.Error(t, s.Serve(ctx))
		})
	}

	t.Run("management", func(t *testing.T) {
		p := newProbe("p")
		p.before = func(n int) error {
			if n > 1 {
				panic(ignore)
			}
			return nil
		}
		r, _ := tree(t, supervisor.Spec{Build: children(p.child(supervisor.Permanent))})
		_, err := r.StartChild(ctx, bad)
		require.ErrorIs(t, err, supervisor.ErrIgnore) // as the value of the panic
		require.NoError(t, r.TerminateChild(ctx, "p"))
		_, err = r.RestartChild(ctx, "p")
		require.Error(t, err)
		require.Error(t, r.Reload(ctx, supervisor.Spec{Build: func(context.Context) ([]supervisor.Child, error) {
			panic(ignore)
		}}))

		d, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{Name: "d",
			Start: func(context.Context, int) (supervisor.Service, error) {
				panic(ignore)
			}})
		require.NoError(t, err)
		_, err = r.StartChild(ctx, supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) {
			return d, nil
		}})
		require.NoError(t, err)
		_, err = d.StartChild(ctx, "x", 1)
		require.Error(t, err)
	})

	t.Run("returned", func(t *testing.T) {
		r, w := tree(t, supervisor.Spec{Build: children(
			supervisor.Child{ID: "a", Start: func(context.Context) (supervisor.Service, error) { return nil, ignore }},
			nested("n", supervisor.Permanent, supervisor.Spec{Build: func(context.Context) ([]supervisor.Child, error) {
				return nil, ignore
			}}))})
		require.NoError(t, r.Flush(ctx))
		require.Equal(t, 2, suptest.Count[supervisor.ChildIgnored](w, nil))
	})
}

// Ready has no effect in a child with AckStart, whose start is acknowledged by its return (OTP rule
// 13).
func TestReadyIsOnlyForAckReady(t *testing.T) {
	s, err := supervisor.New(supervisor.Spec{
		Build: children(supervisor.Child{ID: "a", Restart: supervisor.Temporary,
			Start: func(ctx context.Context) (supervisor.Service, error) {
				supervisor.Ready(ctx)
				return nil, errCrash
			}})})
	require.NoError(t, err)
	_, err = s.Start(ctx)
	require.ErrorIs(t, err, errCrash)
}

// The context of Build lives as long as the run, and ends at once if Build fails.
func TestBuildsContextLivesAsLongAsWhatItBuilt(t *testing.T) {
	for name, failure := range map[string]error{"Build returns children": nil, "Build fails": errors.New("no")} {
		t.Run(name, func(t *testing.T) {
			var kept context.Context
			s, err := supervisor.New(supervisor.Spec{Name: "r",
				Build: func(ctx context.Context) ([]supervisor.Child, error) {
					kept = ctx
					return nil, failure
				}})
			require.NoError(t, err)
			r, err := s.Start(t.Context())
			require.ErrorIs(t, err, failure)

			if failure == nil {
				require.NoError(t, kept.Err())
				require.NoError(t, r.Stop(t.Context()))
			}

			require.Error(t, kept.Err())
		})
	}
}

// A service that ends in order before it was ready has failed to start. An orphan of the rollback
// of a start is not a give-up, because the supervisor has not started yet.
func TestRule17_WhatAFailedStartLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHang("h")
		early := supervisor.Child{ID: "early", Ack: supervisor.AckReady,
			Start: supervisor.Start(func(context.Context) error {
				return nil
			})}
		rec := suptest.NewRecorder()
		s, err := supervisor.New(supervisor.Spec{Observers: []supervisor.Observer{rec},
			Build: children(h.child(0, supervisor.Escalate), early)})
		require.NoError(t, err)
		_, err = s.Start(ctx)
		require.ErrorIs(t, err, supervisor.ErrEndedBeforeReady)
		require.ErrorIs(t, err, supervisor.ErrOrphan)
		synctest.Wait()
		suptest.Wait[supervisor.ChildOrphaned](t, rec, 1, nil)
		suptest.Never[supervisor.GaveUp](t, rec, nil)
		close(h.release)
		synctest.Wait()
	})
	early := supervisor.Child{ID: "early", Ack: supervisor.AckReady}
	ends := false
	early.Start = supervisor.Start(func(ctx context.Context) error {
		if ends {
			return nil
		}
		supervisor.Ready(ctx)
		<-ctx.Done()
		return ctx.Err()
	})
	r, _ := tree(t, supervisor.Spec{Build: children(early)})
	require.NoError(t, r.TerminateChild(ctx, "early"))
	ends = true
	_, err := r.RestartChild(ctx, "early")
	require.ErrorIs(t, err, supervisor.ErrEndedBeforeReady)
	n, _ := r.Tree().Find("early")
	require.Equal(t, supervisor.Abnormal, n.LastExit.Class)
}
