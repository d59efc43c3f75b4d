package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// mirror is a tree that Deltas keep up to date, as a page would.
type mirror struct {
	tree supervisor.Tree
	seq  uint64
	seen uint64 // events, counted or got
}

func (m *mirror) apply(t *testing.T, d supervisor.Delta) {
	m.seen += d.Lost + uint64(len(d.Events))
	require.Equal(t, d.Seq-m.seq, d.Lost+uint64(len(d.Events)), "an event is missing, or came twice")
	m.seq = d.Seq
	for _, c := range d.Changes {
		change(&m.tree, c, c.Path)
	}
}

func change(t *supervisor.Tree, c supervisor.Change, rest string) {
	if rest == "" {
		if !c.Whole {
			c.Children = t.Children
		}
		*t = c.Tree
		return
	}

	id, below, more := strings.Cut(rest, "/")
	at := slices.IndexFunc(t.Children, func(x supervisor.Tree) bool { return x.ID == id })
	switch {
	case c.Gone && at < 0:
	case c.Gone && !more:
		t.Children = slices.Delete(t.Children, at, at+1)
	case at >= 0:
		change(&t.Children[at], c, below)
	case !more:
		t.Children = append(t.Children, c.Tree)
	}
}

// still returns what a mirror has: all but what passes by itself.
func still(t supervisor.Tree) supervisor.Tree {
	t.Busy = false
	children := t.Children
	t.Children = nil
	for _, c := range children {
		t.Children = append(t.Children, still(c))
	}
	return t
}

func requireSame(t *testing.T, want, got supervisor.Tree) {
	t.Helper()
	if want, got = still(want), still(got); !reflect.DeepEqual(want, got) {
		t.Fatalf("the tree is\n%v\nand the Watch told\n%v", want, got)
	}
}

// drain reads until nothing has changed for longer than any look is delayed.
func (m *mirror) drain(t *testing.T, w *supervisor.Watch) {
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		d, err := w.Next(ctx)
		cancel()
		if err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			return
		}
		m.apply(t, d)
	}
}

// A tree goes through random kills, starts, stops, reloads and restarts of whole supervisors, while
// a Watch is read now and then. At rest, what the Watch told equals Tree, and no event is missing.
func TestWatchEqualsTheTreeAtRest(t *testing.T) {
	const steps = 400
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { watchAtRandom(t, seed, steps) })
	}
}

func watchAtRandom(t *testing.T, seed uint64, steps int) {
	rnd := rand.New(rand.NewPCG(seed, 16))
	crowd, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{
		Name: "crowd", Restart: supervisor.Transient, Intensity: many(1 << 20),
		Start: func(context.Context, int) (supervisor.Service, error) { return supervisor.ServiceFunc(rest), nil },
	})
	require.NoError(t, err)

	slow := supervisor.Backoff{Min: 5 * time.Millisecond, Max: 50 * time.Millisecond}
	group := func(s supervisor.Strategy) supervisor.Spec {
		return supervisor.Spec{Strategy: s, Intensity: supervisor.Intensity{Max: 3, Period: time.Second},
			Build: children(supervisor.Child{ID: "x", Start: supervisor.Start(rest)},
				supervisor.Child{ID: "y", Start: supervisor.Start(rest), Backoff: slow, Restart: supervisor.Transient},
				supervisor.Child{ID: "z", Start: supervisor.Start(rest), Restart: supervisor.Temporary})}
	}
	inner := supervisor.Child{ID: "host", Start: supervisor.Start(func(ctx context.Context) error {
		s, err := supervisor.New(supervisor.Spec{Name: "inner", Intensity: many(9),
			Build: children(supervisor.Child{ID: "leaf", Start: supervisor.Start(rest)})})
		if err != nil {
			return err
		}
		return s.Serve(ctx)
	})}

	var top *supervisor.Supervisor
	spec := supervisor.Spec{Name: "top", Intensity: many(1 << 20),
		Observers: []supervisor.Observer{supervisor.Discard},
		Build: children(nested("all", 0, group(supervisor.OneForAll)), nested("one", 0, group(supervisor.OneForOne)),
			nested("rest", 0, group(supervisor.RestForOne)), inner,
			supervisor.Child{ID: "crowd",
				Start: func(context.Context) (supervisor.Service, error) { return crowd, nil }})}

	synctest.Test(t, func(t *testing.T) {
		top, err = supervisor.New(spec)
		require.NoError(t, err)
		r, err := top.Start(t.Context())
		require.NoError(t, err)
		w, err := top.Watch()
		require.NoError(t, err)
		defer w.Close()
		m := mirror{tree: w.Snapshot().Tree, seq: w.Snapshot().Seq}

		for range steps {
			shake(t, rnd, r, crowd)
			if rnd.IntN(8) == 0 {
				<-time.After(time.Duration(rnd.IntN(40)) * time.Millisecond)
			}
			if rnd.IntN(3) == 0 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				if d, err := w.Next(ctx); err == nil {
					m.apply(t, d)
				}
				cancel()
			}
		}

		<-time.After(5 * time.Second) // every delay and every window is over
		m.drain(t, w)
		requireSame(t, r.Tree(), m.tree)
		require.Greater(t, m.seen, uint64(steps/2), "the campaign did nothing")
		require.NoError(t, r.Stop(t.Context()))

		for err = error(nil); err == nil; {
			var d supervisor.Delta
			if d, err = w.Next(t.Context()); err == nil {
				m.apply(t, d)
			}
		}
		require.ErrorIs(t, err, supervisor.ErrNotRunning)
		requireSame(t, r.Tree(), m.tree)
	})
}

// rest does nothing until it is told to end.
func rest(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// shake does one thing at random. What fails, because what it wants is not there, is nothing.
func shake(t *testing.T, rnd *rand.Rand, r *supervisor.Run, crowd *supervisor.Dynamic[int]) {
	ctx := t.Context()
	var paths []string
	r.Tree().Walk(func(x supervisor.Tree) { paths = append(paths, x.Path) })
	path := paths[1+rnd.IntN(len(paths)-1)]
	id := string(rune('p' + rnd.IntN(4)))

	switch rnd.IntN(9) {
	case 0, 1, 2:
		_ = r.Kill(path, errors.New("shaken"))
	case 3:
		_, _ = r.StartChild(ctx, supervisor.Child{ID: id, Start: supervisor.Start(rest),
			Restart: supervisor.Restart(rnd.IntN(3))})
	case 4:
		_ = r.TerminateChild(ctx, id)
	case 5:
		_ = r.DeleteChild(ctx, id)
	case 6:
		_, _ = r.RestartChild(ctx, id)
	case 7:
		_, _ = crowd.StartChild(ctx, "", 0)
		for range rnd.IntN(20) {
			_, _ = crowd.StartChild(ctx, "", 0)
		}
	case 8:
		if all, err := crowd.WhichChildren(); err == nil && len(all) > 0 {
			_ = crowd.TerminateChild(ctx, all[rnd.IntN(len(all))].ID)
		}
	}
}

// A Watch that is not read keeps a bound on what it holds, and says how many events it left out.
func TestAWatchThatIsNotReadIsBounded(t *testing.T) {
	r, rec := tree(t, supervisor.Spec{Intensity: many(1 << 20),
		Build: children(supervisor.Child{ID: "a", Start: idle})})
	w := r.Watch()
	defer w.Close()
	from := w.Snapshot().Seq

	for range 300 {
		info, err := r.WhichChild("a")
		require.NoError(t, err)
		require.NoError(t, r.Kill("a", nil))
		<-supervisor.Monitor(info.Ref)
		rec.Settle(t, r)
	}

	d, err := w.Next(ctx)
	require.NoError(t, err)
	require.Len(t, d.Events, supervisor.WatchEvents)
	require.Equal(t, d.Seq-from, d.Lost+supervisor.WatchEvents)
	require.Equal(t, d.Seq, d.Events[len(d.Events)-1].Head().Seq)
	require.Len(t, d.Changes, 2, "the child, and its supervisor: %v", d.Changes)
}

// Inspect shows what a service opted to show, within its bounds, and never waits for the service.
func TestInspect(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	shows := func(f func(context.Context) map[string]string) supervisor.StartFunc {
		return func(context.Context) (supervisor.Service, error) { return inspected{f}, nil }
	}
	r, _ := tree(t, supervisor.Spec{Build: children(
		supervisor.Child{ID: "plain", Start: idle},
		supervisor.Child{ID: "shows", Start: shows(func(context.Context) map[string]string {
			return map[string]string{"a": "1", "long": strings.Repeat("x", 1<<20), "z": "left out"}
		})},
		supervisor.Child{ID: "panics", Start: shows(func(context.Context) map[string]string { panic("state") })},
		supervisor.Child{ID: "hangs", Start: shows(func(context.Context) map[string]string { <-release; return nil })},
	)})

	_, err := r.Inspect(ctx, "plain")
	require.ErrorIs(t, err, supervisor.ErrNotInspected)
	_, err = r.Inspect(ctx, "none")
	require.ErrorIs(t, err, supervisor.ErrNotFound)

	got, err := r.Inspect(ctx, "shows")
	require.NoError(t, err)
	require.Equal(t, "1", got["a"])
	size := 0
	for k, v := range got {
		size += len(k) + len(v)
	}
	require.Equal(t, supervisor.InspectBytes, size)
	require.NotContains(t, got, "z")

	_, err = r.Inspect(ctx, "panics")
	require.ErrorIs(t, err, supervisor.ErrInspect)
	require.ErrorContains(t, err, "state")
	require.Equal(t, supervisor.Running, state(t, r, "panics"))

	_, err = r.Inspect(ctx, "hangs")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = r.Inspect(ctx, "hangs")
	require.ErrorIs(t, err, supervisor.ErrInspecting)

	n, stacks, err := r.Stacks("shows")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Contains(t, stacks, "inspected.Serve")

	place, err := r.Place("shows")
	require.NoError(t, err)
	require.Equal(t, mustFind(t, r, "shows"), place)
}

type inspected struct {
	f func(context.Context) map[string]string
}

func (i inspected) Serve(ctx context.Context) error               { return rest(ctx) }
func (i inspected) Inspect(ctx context.Context) map[string]string { return i.f(ctx) }
