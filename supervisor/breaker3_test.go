package supervisor_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// What is between two states: an end that meets a restart, a stop that meets a delay, a kill that
// takes its time.

// late is a context that ends while StartChild looks at it: by then, until has returned.
type late struct {
	context.Context
	until func()
	over  atomic.Bool
}

func (l *late) Done() <-chan struct{} {
	l.until()
	l.over.Store(true)
	closed := make(chan struct{})
	close(closed)
	return closed
}

func (l *late) Err() error {
	if l.over.Load() {
		return context.Canceled
	}
	return nil
}

// StartChild: "If ctx ends first, the instance is told to end", also when it has crashed meanwhile
// and is in its second incarnation, or between the two.
func TestDynamicStartCancelledAfterRestart(t *testing.T) {
	for _, backoff := range []supervisor.Backoff{{}, {Min: 1 << 40}} {
		cancelled := 0
		for range 40 { // select chooses among what is ready: the acknowledgment, the end and the context
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int32
				d, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{Name: "d", Intensity: many(9),
					Backoff: backoff, Start: func(context.Context, int) (supervisor.Service, error) {
						return supervisor.ServiceFunc(func(ctx context.Context) error {
							if n.Add(1) == 1 {
								return errCrash
							}
							<-ctx.Done()
							return ctx.Err()
						}), nil
					}})
				require.NoError(t, err)
				r, _ := tree(t,
					supervisor.Spec{
						Build: children(supervisor.Child{ID: "d",
							Start: func(context.Context) (supervisor.Service, error) {
								return d, nil
							}})})
				_, err = d.StartChild(&late{Context: ctx, until: synctest.Wait}, "x", 1)
				synctest.Wait()
				_, known := d.WhichChild("x")

				if err == nil {
					require.NoError(t, known)
				} else {
					require.ErrorIs(t, err, context.Canceled)
					require.ErrorIs(t, known, supervisor.ErrNotFound)
					cancelled++
				}

				require.True(t, r.Tree().Settled() || backoff.Min > 0)
				require.NoError(t, r.Stop(ctx))
			})
		}

		require.Positive(t, cancelled)
	}
}

// A verbose Dynamic tells each end, and besides whether that was clean (OTP rule 58); an instance
// that was ended before its acknowledgment has not stopped, its start has failed. The Laws look at
// the rest.
func TestVerboseUncleanStop(t *testing.T) {
	unclean := func(ctx context.Context) error { <-ctx.Done(); return errCrash }
	d, err := supervisor.NewDynamic(supervisor.DynamicSpec[bool]{Name: "d", Verbose: true, Ack: supervisor.AckReady,
		Start: func(_ context.Context, ready bool) (supervisor.Service, error) {
			return supervisor.ServiceFunc(func(ctx context.Context) error {
				if ready {
					supervisor.Ready(ctx)
				}
				return unclean(ctx)
			}), nil
		}})
	require.NoError(t, err)
	r, w := tree(t, supervisor.Spec{
		Build: children(supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) {
			return d, nil
		}})})

	for range 2 {
		_, err := d.StartChild(ctx, "x", true)
		require.NoError(t, err)
		require.NoError(t, d.TerminateChild(ctx, "x"))
	}

	failed := make(chan error)
	go func() {
		_, err := d.StartChild(ctx, "never ready", false)
		failed <- err
	}()

	until(t, w, 1, func(e supervisor.ChildStarting) bool { return e.Path == "d/never ready" })
	require.NoError(t, d.TerminateChild(ctx, "never ready"))
	require.Error(t, <-failed)
	_, err = d.StartChild(ctx, "y", true)
	require.NoError(t, err)
	require.NoError(t, r.Stop(ctx))
	require.NoError(t, r.Flush(ctx))
	require.Equal(t, []string{"+d/x", "-d/x", "+d/x", "-d/x", "?d/never ready", "+d/y", "-d/y", "-d"}, steps(w)[1:])
	require.Equal(t, 3, suptest.Count(w, func(e supervisor.ShutdownError) bool { return e.Path != "d" }))
	w.Lawful(t)
}

// What was told to end by Kill is on its way, and the tree is not settled until its supervisor has
// seen to it; in which_children it is what it was until it has ended (OTP rule 28).
func TestKilledIsStopping(t *testing.T) {
	release := map[string]chan struct{}{"h": make(chan struct{}), "d/x": make(chan struct{})}
	slow := supervisor.Start(func(ctx context.Context) error {
		<-ctx.Done()
		<-release[supervisor.Path(ctx)]
		return ctx.Err()
	})

	d, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{Name: "d", Intensity: many(9),
		Start: func(ctx context.Context, _ int) (supervisor.Service, error) {
			return slow(ctx)
		}})
	require.NoError(t, err)
	r, w := tree(t, supervisor.Spec{Intensity: many(9), Build: children(supervisor.Child{ID: "h", Start: slow},
		supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) { return d, nil }})})
	_, err = d.StartChild(ctx, "x", 1)
	require.NoError(t, err)

	for _, path := range []string{"h", "d/x"} {
		before, ok := w.Settle(t, r).Find(path)
		require.True(t, ok)
		require.Equal(t, supervisor.Running, before.State)
		require.NoError(t, r.Kill(path, nil))
		snapshot := r.Tree()
		killed, _ := snapshot.Find(path)
		require.Equal(t, supervisor.Stopping, killed.State)
		require.Equal(t, before.Incarnation, killed.Incarnation)
		require.False(t, snapshot.Settled())

		if path == "h" {
			require.Equal(t, supervisor.Running, state(t, r, "h"))
		} else {
			require.Equal(t, supervisor.Running, state(t, d, "x"))
			n, _ := snapshot.Find("d")
			require.Zero(t, n.InstancesRunning)
		}

		close(release[path])
		after, _ := w.Settle(t, r).Find(path)
		require.Greater(t, after.Incarnation, before.Incarnation)
	}

	require.NoError(t, r.Stop(ctx))
}

// A Reload is for what runs too (OTP rule 81): an orphan that was waited for is given up when the
// policy no longer is Wait, and holds up no stop.
func TestReloadGivesUpOrphan(t *testing.T) {
	for _, policy := range []supervisor.OrphanPolicy{supervisor.Abandon, supervisor.Escalate} {
		synctest.Test(t, func(t *testing.T) {
			h := newHang("h")
			spec := supervisor.Spec{Intensity: many(9), Build: children(h.child(supervisor.Temporary, supervisor.Wait))}
			r, w := tree(t, spec)
			<-h.starts
			require.NoError(t, r.Kill("h", nil))
			until[supervisor.ChildOrphaned](t, w, 1, nil)
			spec.Build = children(h.child(supervisor.Temporary, policy))
			require.NoError(t, r.Reload(ctx, spec))
			e := until(t, w, 1, exitOf("h"))
			require.True(t, e.Exit.Orphaned)
			require.Len(t, r.Orphans(), 1, "it is known all the same")

			if policy == supervisor.Escalate {
				require.ErrorIs(t, r.Wait(), supervisor.ErrOrphan)
			} else {
				require.NoError(t, r.Stop(ctx))
			}

			close(h.release)
			synctest.Wait()
			require.Empty(t, r.Orphans())
		})
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHang("h")
		spec := supervisor.DynamicSpec[int]{Name: "d", Restart: supervisor.Temporary, Shutdown: 1,
			Orphan: supervisor.Wait, Start: func(ctx context.Context, _ int) (supervisor.Service, error) {
				return h.child(0, 0).Start(ctx)
			}}
		d, err := supervisor.NewDynamic(spec)
		require.NoError(t, err)
		r, w := tree(t, supervisor.Spec{
			Build: children(supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) {
				return d, nil
			}})})
		_, err = d.StartChild(ctx, "x", 1)
		require.NoError(t, err)
		require.NoError(t, d.Kill("x", nil))
		until[supervisor.ChildOrphaned](t, w, 1, nil)
		spec.Orphan = supervisor.Abandon
		require.NoError(t, d.Reload(spec))
		_, err = d.WhichChild("x")
		require.ErrorIs(t, err, supervisor.ErrNotFound)
		require.NoError(t, r.Stop(ctx))
		close(h.release)
		synctest.Wait()
	})
}

// TerminateChild: "Nobody else is touched". What a group restart has stopped comes back, though the
// child for whose delay it waits is terminated, or the strategy is no longer that of a group (rules
// 48 and 81; the delay itself is not OTP's).
func TestGroupComesBackWithoutItsDelayedChild(t *testing.T) {
	for _, strategy := range []supervisor.Strategy{supervisor.OneForAll, supervisor.RestForOne} {
		for _, how := range []string{"terminate", "reload", "terminate another too"} {
			synctest.Test(t, func(t *testing.T) {
				a, b, c := newProbe("a"), newProbe("b"), newProbe("c")
				delayed := a.child(0)
				delayed.Backoff = supervisor.Backoff{Min: 10 * time.Second}
				spec := supervisor.Spec{Strategy: strategy, Intensity: many(9),
					Build: children(delayed, b.child(0), c.child(0))}
				r, w := tree(t, spec)
				require.NoError(t, r.Kill("a", nil))
				synctest.Wait()
				require.Equal(t, supervisor.Restarting, state(t, r, "a"))
				want := map[string]supervisor.State{"a": supervisor.NotRunning, "b": supervisor.Running,
					"c": supervisor.Running}

				switch how {
				case "reload":
					spec.Strategy = supervisor.OneForOne
					require.NoError(t, r.Reload(ctx, spec))
					until(t, w, 2, at("a"))
					want["a"] = supervisor.Running

				case "terminate another too":
					require.NoError(t, r.TerminateChild(ctx, "b"))
					want["b"] = supervisor.NotRunning
					fallthrough

				default:
					require.NoError(t, r.TerminateChild(ctx, "a"))
				}

				synctest.Wait()

				for id, state := range want {
					n, _ := w.Settle(t, r).Find(id)
					require.Equal(t, state, n.State, "%v, %s: %s", strategy, how, id)
				}

				require.NoError(t, r.Stop(ctx))
			})
		}
	}
}
