package supervisor_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// Errors that panic when they are inspected, and errors that cannot be compared.

// holed is an error whose methods panic on a typed nil, which is not a nil error.
type holed struct{ err error }

func (h *holed) Error() string { return h.err.Error() }
func (h *holed) Unwrap() error { return h.err }

// mean panics when it is compared.
type mean struct{}

func (mean) Error() string { panic("Error") }
func (mean) Is(error) bool { panic("Is") }

// An error that panics when it is inspected ends the child that returned it, and nothing else.
func TestErrorsThatPanic(t *testing.T) {
	for _, bad := range []error{(*holed)(nil), mean{}, fmt.Errorf("wrapped: %w", mean{})} {
		p := newProbe("p")
		r, w := tree(t, supervisor.Spec{Intensity: many(9), Build: children(p.child(supervisor.Transient))})
		<-p.starts
		p.end(bad)
		e := until(t, w, 1, exitOf("p")).Exit
		require.Equal(t, supervisor.Abnormal, e.Class)
		var panicked *supervisor.PanicError
		require.ErrorAs(t, e.Err, &panicked)
		require.NotEmpty(t, e.String())
		<-p.starts // restarted

		// In a start, by a descendant, as the reason of a kill, and while it is stopped.
		_, err := r.StartChild(ctx, supervisor.Child{ID: "x", Start: func(context.Context) (supervisor.Service, error) {
			return nil, bad
		}})
		require.ErrorAs(t, err, &panicked)
		p.do(func(ctx context.Context) error {
			return supervisor.Go(ctx, func(context.Context) error { return bad })
		})
		<-p.starts
		require.NoError(t, r.Kill("p", bad))
		<-p.starts
		p.do(func(ctx context.Context) error { <-ctx.Done(); return bad })
		require.NoError(t, r.TerminateChild(ctx, "p"))
		_, err = r.RestartChild(ctx, "p")
		require.NoError(t, err)
		require.NoError(t, r.Stop(ctx))
	}

	c, cancel := context.WithCancelCause(ctx)
	s, err := supervisor.New(supervisor.Spec{Build: children(supervisor.Child{ID: "a", Start: idle})})
	require.NoError(t, err)
	r, err := s.Start(c)
	require.NoError(t, err)
	cancel(mean{}) // as the parent's reason
	require.Error(t, r.Wait())
	s, err = supervisor.New(supervisor.Spec{Build: func(context.Context) ([]supervisor.Child, error) {
		return nil, mean{}
	}})
	require.NoError(t, err)
	require.Error(t, s.Serve(ctx))
}

// errList cannot be compared, as its type shows.
type errList []error

func (e errList) Error() string { return fmt.Sprintf("%d errors", len(e)) }

// anyErr can be compared by its type, but a comparison panics if the value that it holds cannot.
type anyErr struct{ V any }

func (e anyErr) Error() string { return fmt.Sprint(e.V) }

// A panic ends the child or the observer that panicked, and nothing else, whatever its value is.
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

// An error that cannot be compared is treated like any other, even if it is the cause of the
// context and is returned as that.
func TestUncomparableErrorAsCause(t *testing.T) {
	for _, bad := range []error{errList{io.EOF}, anyErr{[]int{1}}} {
		synctest.Test(t, func(t *testing.T) {
			untilTold := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
			child := supervisor.Child{ID: "a", Restart: supervisor.Temporary,
				Start: supervisor.Start(func(ctx context.Context) error {
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

			// As the reason for which the root is stopped.
			c, cancel := context.WithCancelCause(ctx)
			s, err := supervisor.New(
				supervisor.Spec{Build: children(supervisor.Child{ID: "a", Start: supervisor.Start(untilTold)})})
			require.NoError(t, err)
			r, err = s.Start(c)
			require.NoError(t, err)
			cancel(bad)
			require.ErrorIs(t, r.Wait(), context.Canceled)
		})
	}
}
