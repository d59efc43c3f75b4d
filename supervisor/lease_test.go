package supervisor_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

type resource struct{ open atomic.Bool }

func newLease(opened *int, bound time.Duration) *supervisor.Lease[*resource] {
	return supervisor.NewLease(func() (*resource, error) {
		*opened++
		r := &resource{}
		r.open.Store(true)
		return r, nil
	}, func(r *resource) error { r.open.Store(false); return nil }, bound)
}

func TestLease_OneGrantAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opened := 0
		l := newLease(&opened, time.Minute)
		first, err := l.Acquire(ctx)
		require.NoError(t, err)
		inside, release := make(chan struct{}), make(chan struct{})
		done := make(chan error)
		go func() {
			done <- first.Do(func(r *resource) error {
				close(inside)
				<-release
				if !r.open.Load() {
					return errors.New("closed under an operation in flight")
				}
				return errCrash
			})
		}()

		<-inside
		second := make(chan *supervisor.Grant[*resource])
		go func() { g, _ := l.Acquire(ctx); second <- g }()
		synctest.Wait()
		require.ErrorIs(t, first.Do(func(*resource) error { return nil }), supervisor.ErrFenced)
		require.Equal(t, 1, opened) // not before the old one is closed
		close(release)
		require.ErrorIs(t, <-done, errCrash) // the operation in flight was allowed to finish
		g := <-second
		require.Equal(t, 2, opened)
		require.NoError(t, g.Do(func(r *resource) error { require.True(t, r.open.Load()); return nil }))
		require.NoError(t, first.Release()) // does nothing to the successor
		require.NoError(t, g.Do(func(*resource) error { return nil }))
		require.NoError(t, g.Release())
		require.ErrorIs(t, g.Do(func(*resource) error { return nil }), supervisor.ErrFenced)
		require.NoError(t, l.Close())
		_, err = l.Acquire(ctx)
		require.ErrorIs(t, err, supervisor.ErrFenced)
	})
}

func TestLease_Stuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opened := 0
		l := newLease(&opened, time.Minute)
		g, err := l.Acquire(ctx)
		require.NoError(t, err)
		release := make(chan struct{})
		go func() { _ = g.Do(func(*resource) error { <-release; return nil }) }()
		synctest.Wait()
		begin := time.Now()
		_, err = l.Acquire(ctx)
		require.ErrorIs(t, err, supervisor.ErrLeaseStuck)
		require.Equal(t, time.Minute, time.Since(begin))
		require.ErrorIs(t, g.Release(), supervisor.ErrLeaseStuck)
		require.ErrorIs(t, l.Close(), supervisor.ErrLeaseStuck)
		require.Equal(t, 1, opened)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()

		_, err = l.Acquire(short)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		go func() { _, _ = l.Acquire(ctx) }() // has the turn
		synctest.Wait()
		_, err = l.Acquire(short)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		close(release)
		synctest.Wait()
		require.Equal(t, 2, opened)
	})
}

func TestLease_Errors(t *testing.T) {
	failOpen, failClose := errCrash, error(nil)
	l := supervisor.NewLease(func() (int, error) {
		return 7, failOpen
	}, func(int) error { return failClose }, time.Second)
	_, err := l.Acquire(ctx)
	require.ErrorIs(t, err, errCrash)
	failOpen = nil
	g, err := l.Acquire(ctx)
	require.NoError(t, err)
	// the operation is over all the same
	require.PanicsWithValue(t, "boom", func() { _ = g.Do(func(int) error { panic("boom") }) })
	failClose = errCrash
	_, err = l.Acquire(ctx)
	require.ErrorIs(t, err, errCrash)
	require.ErrorIs(t, g.Release(), errCrash)
	_, err = l.Acquire(ctx) // the broken one is gone
	require.NoError(t, err)
}

// A close that panics, or ends its goroutine, ends the child that acquires. Its successor can
// acquire, because the lease gets its turn back.
func TestLease_CloseThatDoesNotReturn(t *testing.T) {
	for name, fault := range map[string]func(){"panic": func() { panic("close") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opened := 0
				l := supervisor.NewLease(func() (int, error) { opened++; return opened, nil }, func(n int) error {
					if n == 1 {
						fault()
					}
					return nil
				}, time.Second)
				first, err := l.Acquire(ctx)
				require.NoError(t, err)
				got := make(chan *supervisor.Grant[int], 1)
				r, w := tree(t,
					supervisor.Spec{
						Build: children(supervisor.Child{ID: "a",
							Start: supervisor.Start(func(ctx context.Context) error {
								g, err := l.Acquire(ctx)
								if err != nil {
									return err
								}
								got <- g
								<-ctx.Done()
								return ctx.Err()
							})})})
				e := until(t, w, 1, exitOf("a")).Exit
				require.True(t, e.Goexit || e.Panic == "close", "%v", e)
				g := <-got
				require.NoError(t, g.Do(func(n int) error { require.Equal(t, 2, n); return nil }))
				require.Error(t, first.Release(), "it is not known to be closed")
				require.NoError(t, r.Stop(ctx))
				require.NoError(t, l.Close())
			})
		})
	}
}

// A grant without operations in flight is never stuck, however short the bound.
func TestLease_IdleIsNotStuck(t *testing.T) {
	l := supervisor.NewLease(func() (int, error) { return 1, nil }, func(int) error { return nil }, 0)
	for range 1000 {
		_, err := l.Acquire(ctx)
		require.NoError(t, err)
	}

	require.NoError(t, l.Close())
	synctest.Test(t, func(t *testing.T) {
		for range 200 { // the operation in flight ends at the instant of the bound
			l := supervisor.NewLease(func() (int, error) { return 1, nil }, func(int) error { return nil }, time.Second)
			g, err := l.Acquire(ctx)
			require.NoError(t, err)
			begun := make(chan struct{})
			go func() {
				_ = g.Do(func(int) error { close(begun); <-time.After(time.Second); return nil })
			}()

			<-begun

			if _, err = l.Acquire(ctx); err != nil {
				require.ErrorIs(t, err, supervisor.ErrLeaseStuck)
				require.ErrorContains(t, err, ": 1 after")
			}

			synctest.Wait()
		}
	})
}
