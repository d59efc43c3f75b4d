package engines_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/enginestest"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/supervisor"
)

// A mistake in a Spec is an error of the start that names the engine and what was expected.
func TestSpecIsChecked(t *testing.T) {
	dir := new(enginestest.Directory)
	handlers := func(register func(*engines.Server)) func(context.Context, *engines.Server) error {
		return func(_ context.Context, s *engines.Server) error { register(s); return nil }
	}
	add1 := func(context.Context, add) error { return nil }

	for want, c := range map[string]struct {
		spec engines.Spec
		dir  engines.Directory
	}{
		`engine "": Name is empty`:     {engines.Spec{Init: takeAskAndTell}, dir},
		`engine "x": Init is nil`:      {engines.Spec{Name: "x"}, dir},
		`engine "x": Mailbox is -1`:    {engines.Spec{Name: "x", Init: takeAskAndTell, Mailbox: -1}, dir},
		`"x": Mailbox is 16777217; ex`: {willing("x", engines.MaxMailbox+1), dir},
		`"x": Start has a nil Direct`:  {engines.Spec{Name: "x", Init: takeAskAndTell}, nil},
		"two handlers for engines_test.add": {engines.Spec{Name: "x", Init: handlers(func(s *engines.Server) {
			engines.OnCast(s, add1)
			engines.OnCast(s, add1)
		})}, dir},
		"handler for engines_test.add is nil": {engines.Spec{Name: "x", Init: handlers(func(s *engines.Server) {
			engines.OnCast[add](s, nil)
		})}, dir},
		"handler for engines_test.total is nil": {engines.Spec{Name: "x", Init: handlers(func(s *engines.Server) {
			engines.OnCall[total](s, nil)
		})}, dir},
		"handler for error, an interface": {engines.Spec{Name: "x", Init: handlers(func(s *engines.Server) {
			engines.OnCast(s, func(context.Context, error) error { return nil })
		})}, dir},
	} {
		t.Run(want, func(t *testing.T) {
			_, err := c.spec.Start(c.dir)(t.Context())
			require.ErrorIs(t, err, supervisor.ErrSpec)
			require.ErrorContains(t, err, want)
		})
	}

	_, err := engines.Call(t.Context(), engines.Address{}, total{})
	require.ErrorIs(t, err, supervisor.ErrSpec)
	require.ErrorIs(t, engines.Cast(t.Context(), engines.NewAddress(nil, "x"), add{}), supervisor.ErrSpec)
}

// Two engines cannot have one name. The second is refused before its Init, and the first is not
// touched.
func TestASecondEngineOfANameIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, dir *router.Directory, run *supervisor.Run) {
		first, err := dir.Resolve("a")
		require.NoError(t, err)

		second := willing("a", 0)
		second.Init = func(context.Context, *engines.Server) error { panic("Init runs") }
		_, err = run.StartChild(t.Context(), supervisor.Child{ID: "other", Start: second.Start(dir)})
		require.ErrorIs(t, err, engines.ErrNameTaken)
		require.ErrorContains(t, err, `"a" belongs to the child a (incarnation`)
		require.ErrorContains(t, err, `the child other (incarnation`)

		still, err := dir.Resolve("a")
		require.NoError(t, err)
		require.Same(t, first, still)
		require.NoError(t, call(t.Context(), dir, "a", nothing))

		// the next incarnation has the name, and once that is stopped, so may another child
		require.NoError(t, run.Kill("a", errors.New("by hand")))
		synctest.Wait()
		require.NoError(t, call(t.Context(), dir, "a", nothing))
		require.NoError(t, run.TerminateChild(t.Context(), "a"))
		_, err = run.StartChild(t.Context(), supervisor.Child{ID: "heir", Start: willing("a", 0).Start(dir)})
		require.NoError(t, err)
		require.NoError(t, call(t.Context(), dir, "a", nothing))
		_, err = run.RestartChild(t.Context(), "a")
		require.ErrorIs(t, err, engines.ErrNameTaken)
		require.NoError(t, call(t.Context(), dir, "a", nothing))
	}, willing("a", 0))
}

// Two engines of one name that start at the same time: the one whose Init takes longer is refused,
// whichever of them began first.
func TestOneNameAtTheSameTime(t *testing.T) {
	for _, last := range []string{"one", "two"} {
		t.Run(last, func(t *testing.T) {
			bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
				errs, release := make(chan error, 1), make(chan struct{})
				slow := willing("a", 0)
				slow.Init = func(ctx context.Context, s *engines.Server) error {
					<-release
					return takeAskAndTell(ctx, s)
				}
				sub := func(id string, spec engines.Spec) supervisor.Child {
					return supervisor.Child{ID: id, Start: spec.Start(dir)}
				}

				// each in a supervisor of its own, which starts one child at a time
				starts := func(own string, spec engines.Spec) error {
					sup, err := supervisor.New(supervisor.Spec{Name: own, Build: supervisor.Children(sub(own, spec))})
					require.NoError(t, err)
					other, err := sup.Start(context.Background())
					if err == nil {
						t.Cleanup(func() { _ = other.Stop(context.Background()) })
					}
					return err
				}

				if last == "one" { // it has the smaller number
					go func() { errs <- starts("one", slow) }()
					synctest.Wait()
					require.NoError(t, starts("two", willing("a", 0)))
				} else {
					go func() { errs <- starts("two", slow) }()
					synctest.Wait()
					require.NoError(t, starts("one", willing("a", 0)))
				}

				close(release)
				require.ErrorIs(t, <-errs, engines.ErrNameTaken)
				require.NoError(t, call(t.Context(), dir, "a", nothing))
			})
		})
	}
}

// An incarnation that was told to end while its Init ran is not registered.
func TestAStartThatWasStoppedIsNotRegistered(t *testing.T) {
	dir := new(enginestest.Directory)
	ctx, cancel := context.WithCancel(t.Context())
	spec := willing("a", 0)
	spec.Init = func(ctx context.Context, s *engines.Server) error { cancel(); return takeAskAndTell(ctx, s) }
	_, err := spec.Start(dir)(ctx)
	require.ErrorIs(t, err, context.Canceled)
	_, err = dir.Resolve("a")
	require.ErrorIs(t, err, engines.ErrDown)
}

// The messages of this test: note has a value handler, memo a pointer handler, and total is a call.
type (
	note struct{ text string }
	memo struct{ text string }
)

// A message and a pointer to it reach the same handler. A message that the engine does not take, or
// not in this way, is refused at its sender, and the engine goes on.
func TestMessages(t *testing.T) {
	var got []string
	spec := engines.Spec{Name: "a", Init: func(_ context.Context, s *engines.Server) error {
		engines.OnCast(s, func(_ context.Context, n note) error { got = append(got, "note "+n.text); return nil })
		engines.OnCast(s, func(_ context.Context, m *memo) error { got = append(got, "memo "+m.text); return nil })
		engines.OnCall(s, func(_ context.Context, _ total, from engines.From[int]) error {
			from.Reply(len(got))
			return nil
		})
		engines.OnCast(s, func(_ context.Context, _ later) error { return nil }) // a query that is taken as a cast
		return nil
	}}

	bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
		a := engines.NewAddress(dir, "a")
		before, err := dir.Resolve("a")
		require.NoError(t, err)

		for _, m := range []any{note{"1"}, &note{"2"}, memo{"3"}, &memo{"4"}} {
			require.NoError(t, engines.Cast(t.Context(), a, m))
		}
		n, err := engines.Call(t.Context(), a, total{})
		require.NoError(t, err)
		require.Equal(t, 4, n)
		n, err = engines.Call(t.Context(), a, &total{})
		require.NoError(t, err)
		require.Equal(t, 4, n)
		require.Equal(t, []string{"note 1", "note 2", "memo 3", "memo 4"}, got)

		pointer := &note{}
		for want, m := range map[string]any{
			"a was sent a engines_test.add ":   add{},
			"a was sent a *engines_test.add":   &add{},
			"a was sent a <nil>":               nil,
			"a was sent a *engines_test.note":  (*note)(nil),
			"a was sent a **engines_test.note": &pointer,
			"engines_test.total by Call":       total{},
			"by Call and answers it":           &total{},
		} {
			err := engines.Cast(t.Context(), a, m)
			require.ErrorIs(t, err, engines.ErrUnknownMessage)
			require.ErrorContains(t, err, want)
		}

		_, err = engines.Call(t.Context(), a, later{})
		require.ErrorIs(t, err, engines.ErrUnknownMessage)
		require.ErrorContains(t, err, "by Cast")
		_, err = engines.Call[int](t.Context(), a, nil)
		require.ErrorIs(t, err, engines.ErrUnknownMessage)

		after, err := dir.Resolve("a")
		require.NoError(t, err)
		require.Same(t, before, after, "the engine was not restarted")
	}, spec)
}

// A message that an engine posts to itself and does not take is its own mistake: it ends.
func TestAnUnknownPostEndsTheEngine(t *testing.T) {
	for name, m := range map[string]any{"unknown": stranger{}, "a call": ask{nothing}} {
		t.Run(name, func(t *testing.T) {
			var self *engines.Server
			spec := engines.Spec{Name: "a", Init: func(ctx context.Context, s *engines.Server) error {
				self = s
				return takeAskAndTell(ctx, s)
			}}

			bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
				before, err := dir.Resolve("a")
				require.NoError(t, err)
				old := self
				old.Post(&tell{func(context.Context) { old.Post(m) }})
				<-before.Done()
				require.ErrorIs(t, before.Down().Cause, engines.ErrUnknownMessage)
				require.ErrorContains(t, before.Down(), fmt.Sprintf("%T", m))
				old.Post(m) // it has ended: nothing happens
			}, spec)
		})
	}
}

func TestHandlersAreFinal(t *testing.T) {
	var self *engines.Server
	dir := new(enginestest.Directory)
	_, err := engines.Spec{Name: "a", Init: func(_ context.Context, s *engines.Server) error {
		self = s
		return nil
	}}.Start(dir)(t.Context())
	require.NoError(t, err)
	require.Panics(t, func() { engines.OnCast(self, func(context.Context, add) error { return nil }) })
}
