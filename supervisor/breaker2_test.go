package supervisor_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// errList cannot be compared, and its type says so.
type errList []error

func (e errList) Error() string { return fmt.Sprintf("%d errors", len(e)) }

// anyErr can be compared as far as its type says, and panics all the same if what it holds cannot.
type anyErr struct{ V any }

func (e anyErr) Error() string { return fmt.Sprint(e.V) }

// A panic is the child's or the observer's end and nobody else's, whatever its value is.
func TestPanicWithUncomparableError(t *testing.T) {
	for _, bad := range []error{errList{io.EOF}, anyErr{[]int{1}}} {
		p := newProbe("p")
		r, w := tree(t, supervisor.Spec{Intensity: many(9), Build: children(p.child(supervisor.Permanent))})
		r.Subscribe(supervisor.ObserverFunc(func(supervisor.Event) { panic(bad) }))
		<-p.starts
		p.do(func(context.Context) error { panic(bad) })
		e := until(t, w, 1, exitOf("p")).Exit
		require.Equal(t, supervisor.Abnormal, e.Class)
		require.Equal(t, bad, e.Panic)
		require.NotEmpty(t, e.Stack)
		<-p.starts
		require.NotEmpty(t, until[supervisor.ObserverFailed](t, w, 1, nil).String())
		require.NoError(t, r.Stop(ctx))
	}
}

// An error that cannot be compared is as good as any, also where it is the cause of the context and is returned as that.
func TestUncomparableErrorAsCause(t *testing.T) {
	for _, bad := range []error{errList{io.EOF}, anyErr{[]int{1}}} {
		synctest.Test(t, func(t *testing.T) {
			untilTold := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
			child := supervisor.Child{ID: "a", Restart: supervisor.Temporary, Start: supervisor.Start(func(ctx context.Context) error {
				if err := supervisor.Go(ctx, func(context.Context) error { return bad }); err != nil {
					return err
				}
				if err := supervisor.Go(ctx, untilTold); err != nil {
					return err
				}
				return untilTold(ctx)
			})}
			r, w := tree(t, supervisor.Spec{Build: children(child)})
			e := until(t, w, 1, exitOf("a")).Exit
			require.Equal(t, supervisor.Abnormal, e.Class)
			require.Equal(t, bad, e.Err)
			require.NoError(t, r.Stop(ctx))
			require.Zero(t, suptest.Count[supervisor.ShutdownError](w, nil))

			// As the reason of who stops the root.
			c, cancel := context.WithCancelCause(ctx)
			s, err := supervisor.New(supervisor.Spec{Build: children(supervisor.Child{ID: "a", Start: supervisor.Start(untilTold)})})
			require.NoError(t, err)
			r, err = s.Start(c)
			require.NoError(t, err)
			cancel(bad)
			require.ErrorIs(t, r.Wait(), context.Canceled)
		})
	}
}

// Only a start or a Build that returns ErrIgnore is ignored (OTP rules 12 and 16): not who ends with it later, and not who panics with it.
func TestIgnoreIsOnlyReturned(t *testing.T) {
	ignore := fmt.Errorf("wrapped: %w", supervisor.ErrIgnore)
	never := supervisor.Intensity{Period: time.Hour}
	t.Run("an exit", func(t *testing.T) {
		p := newProbe("p")
		r, _ := tree(t, supervisor.Spec{Intensity: never, Build: children(p.child(supervisor.Permanent))})
		<-p.starts
		p.end(ignore)
		require.ErrorIs(t, r.Wait(), supervisor.ErrMaxIntensity)
		s, err := supervisor.New(supervisor.Spec{Intensity: never, Build: children(supervisor.Child{ID: "a", Start: supervisor.Start(func(context.Context) error { return ignore })})})
		require.NoError(t, err)
		require.ErrorIs(t, s.Serve(ctx), supervisor.ErrMaxIntensity, "Serve of a root that gave up")
	})
	bad := supervisor.Child{ID: "a", Start: func(context.Context) (supervisor.Service, error) { panic(ignore) }}
	for where, spec := range map[string]supervisor.Spec{
		"a panic in a start":        {Build: children(bad)},
		"a panic in a start, below": {Build: children(nested("n", supervisor.Permanent, supervisor.Spec{Build: children(bad)}))},
		"a panic in Build":          {Build: func(context.Context) ([]supervisor.Child, error) { panic(ignore) }},
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
		require.ErrorIs(t, err, supervisor.ErrIgnore) // as what was panicked with
		require.NoError(t, r.TerminateChild(ctx, "p"))
		_, err = r.RestartChild(ctx, "p")
		require.Error(t, err)
		require.Error(t, r.Reload(ctx, supervisor.Spec{Build: func(context.Context) ([]supervisor.Child, error) { panic(ignore) }}))
		d, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{Name: "d", Start: func(context.Context, int) (supervisor.Service, error) { panic(ignore) }})
		require.NoError(t, err)
		_, err = r.StartChild(ctx, supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) { return d, nil }})
		require.NoError(t, err)
		_, err = d.StartChild(ctx, "x", 1)
		require.Error(t, err)
	})
	t.Run("returned", func(t *testing.T) {
		r, w := tree(t, supervisor.Spec{Build: children(
			supervisor.Child{ID: "a", Start: func(context.Context) (supervisor.Service, error) { return nil, ignore }},
			nested("n", supervisor.Permanent, supervisor.Spec{Build: func(context.Context) ([]supervisor.Child, error) { return nil, ignore }}))})
		require.NoError(t, r.Flush(ctx))
		require.Equal(t, 2, suptest.Count[supervisor.ChildIgnored](w, nil))
	})
}
