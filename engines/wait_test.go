package engines_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/supervisor"
)

// Each way in which an engine can wait for itself ends at once, with the names of the ring. In a
// bubble, a wait that lasted would fail the test by itself.
func TestRingsAreRefused(t *testing.T) {
	abc := []engines.Spec{willing("a", 1), willing("b", 1), willing("c", 1)}
	patient := func(dir engines.Directory, name string, p engines.Patience) engines.Address {
		return engines.NewAddress(dir, name).With(p)
	}

	t.Run("a call to oneself", func(t *testing.T) {
		bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
			for _, p := range []engines.Patience{engines.FailFast, engines.AwaitNext, engines.Resend} {
				err := call(t.Context(), dir, "a", func(ctx context.Context) error {
					_, err := engines.Call(ctx, patient(dir, "a", p), ask{nothing})
					return err
				})
				require.ErrorIs(t, err, engines.ErrWouldDeadlock)
				require.ErrorContains(t, err, ": a → a;")
			}

			require.NoError(t, call(t.Context(), dir, "a", nothing), "the engine goes on")
		}, abc...)
	})

	t.Run("with a context that was derived", func(t *testing.T) {
		bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
			err := call(t.Context(), dir, "a", func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, time.Hour)
				defer cancel()
				return call(engines.Lifetime(ctx), dir, "a", nothing)
			})
			require.ErrorIs(t, err, engines.ErrWouldDeadlock)
		}, abc...)
	})

	t.Run("from a cast", func(t *testing.T) {
		bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
			got := make(chan error, 1)
			require.NoError(t, engines.Cast(t.Context(), engines.NewAddress(dir, "a"), tell{func(ctx context.Context) {
				got <- call(ctx, dir, "a", nothing)
			}}))
			require.ErrorIs(t, <-got, engines.ErrWouldDeadlock)
		}, abc...)
	})

	t.Run("two engines", func(t *testing.T) {
		bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
			err := call(t.Context(), dir, "a", func(ctx context.Context) error {
				return call(ctx, dir, "b", func(ctx context.Context) error { return call(ctx, dir, "a", nothing) })
			})
			require.ErrorIs(t, err, engines.ErrWouldDeadlock)
			require.ErrorContains(t, err, ": b → a → b;")
		}, abc...)
	})

	t.Run("three engines", func(t *testing.T) {
		bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
			err := call(t.Context(), dir, "a", func(ctx context.Context) error {
				return call(ctx, dir, "b", func(ctx context.Context) error {
					return call(ctx, dir, "c", func(ctx context.Context) error { return call(ctx, dir, "a", nothing) })
				})
			})
			require.ErrorContains(t, err, ": c → a → b → c;")
		}, abc...)
	})

	t.Run("two engines that call at once", func(t *testing.T) {
		bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
			errs := make(chan error, 2)
			begin := make(chan struct{})
			for from, to := range map[string]string{"a": "b", "b": "a"} {
				go func() {
					errs <- call(context.Background(), dir, from, func(ctx context.Context) error {
						<-begin
						return call(ctx, dir, to, nothing)
					})
				}()
			}

			synctest.Wait() // both are in their handlers
			close(begin)
			require.ErrorIs(t, errors.Join(<-errs, <-errs), engines.ErrWouldDeadlock)
		}, abc...)
	})

	t.Run("a call that waits behind another", func(t *testing.T) {
		bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
			inB, begin := make(chan struct{}), make(chan struct{})
			busy, behind := make(chan error, 1), make(chan error, 1)
			go func() {
				busy <- call(context.Background(), dir, "b", func(ctx context.Context) error {
					close(inB)
					<-begin
					return call(ctx, dir, "a", nothing)
				})
			}()
			<-inB
			go func() {
				behind <- call(context.Background(), dir, "a", func(ctx context.Context) error {
					return call(ctx, dir, "b", nothing)
				})
			}()

			synctest.Wait() // a waits in b's mailbox
			close(begin)
			require.ErrorIs(t, <-busy, engines.ErrWouldDeadlock)
			require.NoError(t, <-behind)
		}, abc...)
	})

	t.Run("a cast into one's own full mailbox", func(t *testing.T) {
		bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
			err := call(t.Context(), dir, "a", func(ctx context.Context) error {
				a := engines.NewAddress(dir, "a")
				if err := engines.Cast(ctx, a, tell{func(context.Context) {}}); err != nil {
					return err
				}
				return engines.Cast(ctx, a, tell{func(context.Context) {}})
			})
			require.ErrorIs(t, err, engines.ErrWouldDeadlock)
		}, abc...)
	})

	t.Run("casts into each other's full mailboxes", func(t *testing.T) {
		bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
			errs := make(chan error, 2)
			begin := make(chan struct{})
			for from, to := range map[string]string{"a": "b", "b": "a"} {
				go func() {
					errs <- call(context.Background(), dir, from, func(ctx context.Context) error {
						<-begin
						return engines.Cast(ctx, engines.NewAddress(dir, to), tell{func(context.Context) {}})
					})
				}()
			}

			synctest.Wait()
			for _, name := range []string{"a", "b"} { // there is room for one
				to := engines.NewAddress(dir, name)
				require.NoError(t, engines.Cast(t.Context(), to, tell{func(context.Context) {}}))
			}
			close(begin)
			require.ErrorIs(t, errors.Join(<-errs, <-errs), engines.ErrWouldDeadlock)
		}, abc...)
	})
}

// An engine cannot wait for itself while it starts, nor for an engine that waits for it to start.
func TestRingsOfStartsAreRefused(t *testing.T) {
	t.Run("for oneself", func(t *testing.T) {
		bubble(t, func(t *testing.T, dir *router.Directory, run *supervisor.Run) {
			_, err := run.StartChild(t.Context(), supervisor.Child{ID: "x", Start: engines.Spec{
				Name: "x", Init: func(ctx context.Context, _ *engines.Server) error {
					_, err := engines.Call(ctx, engines.NewAddress(dir, "x").With(engines.AwaitNext), ask{nothing})
					return err
				}}.Start(dir)})
			require.ErrorIs(t, err, engines.ErrWouldDeadlock)
			require.ErrorContains(t, err, "x → x")
		})
	})

	for name, aFirst := range map[string]bool{"for each other": true, "for each other, the engine first": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, dir *router.Directory, run *supervisor.Run) {
				waiting, starts := make(chan error, 1), make(chan error, 1)
				inHandler, inInit := make(chan struct{}), make(chan struct{})

				go func() {
					waiting <- call(context.Background(), dir, "a", func(ctx context.Context) error {
						close(inHandler)
						<-inInit
						if !aFirst {
							synctest.Wait()
						}
						ctx, cancel := context.WithTimeout(ctx, time.Hour) // x does not come if it is the one refused
						defer cancel()
						_, err := engines.Call(ctx, engines.NewAddress(dir, "x").With(engines.AwaitNext), ask{nothing})
						return err
					})
				}()

				<-inHandler

				go func() {
					_, err := run.StartChild(context.Background(), supervisor.Child{ID: "x", Start: engines.Spec{
						Name: "x", Init: func(ctx context.Context, s *engines.Server) error {
							close(inInit)
							if aFirst {
								synctest.Wait()
							}
							return errors.Join(takeAskAndTell(ctx, s), call(ctx, dir, "a", nothing))
						}}.Start(dir)})
					starts <- err
				}()

				wait, start := <-waiting, <-starts
				if aFirst {
					require.ErrorIs(t, start, engines.ErrWouldDeadlock)
					require.ErrorContains(t, start, ": x → a → x;")
					return
				}
				require.ErrorIs(t, wait, engines.ErrWouldDeadlock)
				require.ErrorContains(t, wait, ": a → x → a;")
				require.NoError(t, start)
			}, willing("a", 1))
		})
	}
}

// Only waits that cannot end are refused.
func TestWaitsThatEndAreNot(t *testing.T) {
	ab := []engines.Spec{willing("a", 1), willing("b", 1)}

	t.Run("a goroutine of a handler calls the engine", func(t *testing.T) {
		bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
			got := make(chan error, 1)
			require.NoError(t, call(t.Context(), dir, "a", func(ctx context.Context) error {
				go func() { got <- call(ctx, dir, "a", nothing) }()
				synctest.Wait() // it waits, and the handler still runs
				return nil
			}))
			require.NoError(t, <-got)
		}, ab...)
	})

	t.Run("a goroutine of a handler waits for an engine that calls", func(t *testing.T) {
		bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
			got := make(chan error, 1)
			require.NoError(t, call(t.Context(), dir, "a", func(ctx context.Context) error {
				go func() {
					got <- call(ctx, dir, "b", func(ctx context.Context) error { return call(ctx, dir, "a", nothing) })
				}()
				synctest.Wait()
				return nil
			}))
			require.NoError(t, <-got)
		}, ab...)
	})

	t.Run("an answer before the call back", func(t *testing.T) {
		bubble(t, func(t *testing.T, dir *router.Directory, run *supervisor.Run) {
			back := make(chan error, 1)
			_, err := run.StartChild(t.Context(), supervisor.Child{ID: "x", Start: engines.Spec{
				Name: "x", Init: func(_ context.Context, s *engines.Server) error {
					engines.OnCall(s, func(ctx context.Context, _ ask, from engines.From[struct{}]) error {
						from.Reply(struct{}{})
						back <- call(ctx, dir, "a", nothing)
						return nil
					})
					return nil
				}}.Start(dir)})
			require.NoError(t, err)
			require.NoError(t, call(t.Context(), dir, "a", func(ctx context.Context) error {
				return call(ctx, dir, "x", nothing)
			}))
			require.NoError(t, <-back)
		}, ab...)
	})

	t.Run("a call that is kept", func(t *testing.T) {
		bubble(t, func(t *testing.T, dir *router.Directory, run *supervisor.Run) {
			var kept engines.From[struct{}]
			_, err := run.StartChild(t.Context(), supervisor.Child{ID: "x", Start: engines.Spec{
				Name: "x", Init: func(_ context.Context, s *engines.Server) error {
					engines.OnCall(s, func(_ context.Context, _ ask, from engines.From[struct{}]) error {
						kept = from
						return nil
					})
					engines.OnCast(s, func(ctx context.Context, m tell) error { m.do(ctx); return nil })
					return nil
				}}.Start(dir)})
			require.NoError(t, err)

			asked := make(chan error, 1)
			go func() {
				asked <- call(context.Background(), dir, "a", func(ctx context.Context) error {
					return call(ctx, dir, "x", nothing)
				})
			}()
			synctest.Wait() // a waits for a call that x keeps

			back := make(chan error, 1)
			require.NoError(t, engines.Cast(t.Context(), engines.NewAddress(dir, "x"), tell{func(ctx context.Context) {
				back <- call(ctx, dir, "a", nothing)
			}}))
			synctest.Wait()
			kept.Reply(struct{}{})
			require.NoError(t, <-asked)
			require.NoError(t, <-back)
		}, ab...)
	})
}

// Under load, engines that call each other in one direction, and a goroutine of each that calls
// back, never see a ring where there is none.
func TestNoRingWhereThereIsNone(t *testing.T) {
	dir := router.NewDirectory()
	sup, err := supervisor.New(supervisor.Spec{Build: supervisor.Children(
		supervisor.Child{ID: "router", Start: router.Child(dir)},
		supervisor.Child{ID: "a", Start: willing("a", 2).Start(dir)},
		supervisor.Child{ID: "b", Start: willing("b", 2).Start(dir)},
	)})
	require.NoError(t, err)
	run, err := sup.Start(context.Background())
	require.NoError(t, err)
	defer func() { require.NoError(t, run.Stop(context.Background())) }()

	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				back := make(chan error, 1)
				err := call(context.Background(), dir, "a", func(ctx context.Context) error {
					go func() {
						back <- call(ctx, dir, "b", func(ctx context.Context) error { return nil })
					}()
					return call(ctx, dir, "b", func(ctx context.Context) error {
						go func() { _ = call(ctx, dir, "a", nothing) }()
						return nil
					})
				})
				if !(err == nil && <-back == nil) {
					t.Errorf("%v", err)
				}
			}
		})
	}
	all.Wait()
}
