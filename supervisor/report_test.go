package supervisor_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// printed is what the default logger writes.
type printed struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buf.Write(b)
}

// lines returns the lines so far. Lines within a stack are escaped.
func (p *printed) lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Split(strings.TrimSuffix(p.buf.String(), "\n"), "\n")
}

func (p *printed) String() string { return strings.Join(p.lines(), "\n") }

// printing collects what the default logger of log/slog writes during the test.
func printing(t *testing.T) *printed {
	t.Helper()
	p := &printed{}
	was := log.Writer()
	log.SetOutput(p)
	t.Cleanup(func() { log.SetOutput(was) })
	return p
}

// start starts a root without a recorder.
func start(t *testing.T, spec supervisor.Spec) *supervisor.Run {
	t.Helper()
	s, err := supervisor.New(spec)
	require.NoError(t, err)
	r, err := s.Start(ctx)
	require.NoError(t, err)
	return r
}

var leftOutLine = regexp.MustCompile(`app: (\d+) more failures within 10s were left out`)

// A child that panics 50 times a second is written a few times, with its stack, and the rest is
// counted. A failure elsewhere is not lost in that.
func TestReports_Storm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := printing(t)
		p, other := newProbe("other"), newProbe("once")
		storm := supervisor.Child{ID: "storm", Start: supervisor.Start(func(ctx context.Context) error {
			select {
			case <-time.After(20 * time.Millisecond):
				panic("drawer is stuck")
			case <-ctx.Done():
				return ctx.Err()
			}
		})}
		r := start(t, supervisor.Spec{Name: "app", Intensity: many(1 << 30),
			Build: children(storm, p.child(0), nested("sub", 0, supervisor.Spec{Intensity: supervisor.Intensity{
				Period: time.Hour}, Build: children(other.child(0))}))})
		<-other.starts
		<-time.After(65*time.Second + 10*time.Millisecond)
		other.end(errCrash) // its supervisor gives up
		<-other.starts
		node := mustFind(t, r, "storm")
		require.NoError(t, r.Stop(ctx))

		all := out.String()
		require.Contains(t, all, "ERROR storm: permanent child ended after 20ms: panic: drawer is stuck")
		require.Contains(t, all, "report_test.go", "the stack")
		require.Contains(t, all, "ERROR sub/once: permanent child ended")
		require.Contains(t, all, "ERROR sub: supervisor sub gave up", "the alarm")

		written, left := strings.Count(all, "drawer is stuck"), 0
		for _, m := range leftOutLine.FindAllStringSubmatch(all, -1) {
			n, err := strconv.Atoi(m[1])
			require.NoError(t, err)
			left += n
		}
		require.Equal(t, 7*5, written)
		require.EqualValues(t, node.Restarts, written+left)
		require.Contains(t, all, "of storm")
	})
}

// However many children fail, a tree writes no more than so many lines.
func TestReports_OfManyInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := printing(t)
		d, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{Name: "app", Restart: supervisor.Temporary,
			Start: func(context.Context, int) (supervisor.Service, error) {
				return supervisor.ServiceFunc(func(context.Context) error { return errCrash }), nil
			}})
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- d.Serve(ctx) }()
		synctest.Wait()
		for i := range 500 {
			require.NoError(t, second(d.StartChild(ctx, "", i)))
		}
		synctest.Wait()
		require.NoError(t, d.Stop(ctx))
		<-done

		require.Equal(t, 50, strings.Count(out.String(), "temporary child ended"))
		require.Contains(t, out.String(), "450 more failures")
		require.Contains(t, out.String(), "and 445 other paths")
	})
}

// A give-up and its cause are written before Serve returns, and before Done is closed.
func TestReports_BeforeTheEnd(t *testing.T) {
	for name, run := range map[string]func(*supervisor.Supervisor) error{
		"Serve": func(s *supervisor.Supervisor) error { return s.Serve(ctx) },
		"Start": func(s *supervisor.Supervisor) error {
			r, err := s.Start(ctx)
			require.NoError(t, err)
			return r.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			out := printing(t)
			s, err := supervisor.New(supervisor.Spec{Name: "app", Intensity: supervisor.Intensity{Period: time.Hour},
				Build: children(supervisor.Child{ID: "a", Start: supervisor.Start(func(context.Context) error {
					return errCrash
				})})})
			require.NoError(t, err)
			require.Error(t, run(s))
			require.Len(t, out.lines(), 2, "%s", out)
			require.Contains(t, out.lines()[0], "ERROR a: permanent child ended")
			require.Contains(t, out.lines()[1], "ERROR app: supervisor gave up")
		})
	}
}

func TestReports_OrphansAndFailedRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := printing(t)
		h, p := newHang("deaf"), newProbe("p")
		p.before = func(n int) error {
			if n == 2 {
				return fmt.Errorf("no drawer")
			}
			return nil
		}
		r := start(t, supervisor.Spec{Name: "app", Intensity: many(9), Build: children(p.child(0),
			h.child(0, supervisor.Abandon))})
		<-h.starts
		<-p.starts
		require.Empty(t, out.String(), "normal operation is not written")

		p.end(errCrash)
		<-p.starts
		require.ErrorIs(t, r.TerminateChild(ctx, "deaf"), supervisor.ErrOrphan)
		close(h.release)
		synctest.Wait()
		require.NoError(t, r.Stop(ctx))

		for _, want := range []string{"ERROR p: start failed: no drawer", "ERROR deaf: orphaned",
			"WARN deaf: orphan of"} {
			require.Equal(t, 1, strings.Count(out.String(), want), "%s in\n%s", want, out)
		}
		require.Contains(t, out.String(), "main_test.go", "the orphan's stack")
	})
}

// What an observer gets is not written, wherever in the tree the observer is.
func TestReports_NotWhereAnObserverIs(t *testing.T) {
	var got []supervisor.Event
	kept := supervisor.ObserverFunc(func(e supervisor.Event) { got = append(got, e) })

	for name, c := range map[string]struct {
		root, sub []supervisor.Observer
		lines     int
	}{
		"none":                 {lines: 4},
		"Discard at the root":  {root: []supervisor.Observer{supervisor.Discard}},
		"observer at the root": {root: []supervisor.Observer{kept}},
		"observer below":       {sub: []supervisor.Observer{kept}, lines: 2},
		"Discard below":        {sub: []supervisor.Observer{supervisor.Discard}, lines: 2},
	} {
		t.Run(name, func(t *testing.T) {
			out := printing(t)
			s, err := supervisor.New(supervisor.Spec{Name: "app", Observers: c.root, Intensity: supervisor.Intensity{
				Period: time.Hour},
				Build: children(nested("sub", 0, supervisor.Spec{Observers: c.sub, Intensity: supervisor.Intensity{
					Period: time.Hour}, Build: children(supervisor.Child{ID: "a",
					Start: supervisor.Start(func(context.Context) error { return errCrash })})}))})
			require.NoError(t, err)
			require.Error(t, s.Serve(ctx))

			lines := out.lines()
			if out.String() == "" {
				lines = nil
			}
			// The end of "a" and the give-up of "sub"; and, above it, the end of "sub" and a
			// give-up.
			require.Len(t, lines, c.lines, "%s", out)
		})
	}
	require.NotEmpty(t, got)
}

// A tree whose only observer has failed is a tree without observers.
func TestReports_AfterAnObserverFailed(t *testing.T) {
	out := printing(t)
	p := newProbe("p")
	r := start(t, supervisor.Spec{Name: "app", Intensity: many(9), Build: children(p.child(0)),
		Observers: []supervisor.Observer{supervisor.ObserverFunc(func(supervisor.Event) { panic("observer") })}})
	<-p.starts
	require.NoError(t, r.Flush(ctx))
	p.end(errCrash)
	<-p.starts
	require.NoError(t, r.Stop(ctx))
	require.Contains(t, out.String(), "ERROR app: observer detached")
	require.Contains(t, out.String(), "ERROR p: permanent child ended")
}
