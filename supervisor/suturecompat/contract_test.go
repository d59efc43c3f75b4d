package suturecompat_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	original "github.com/thejerf/suture/v4"

	suture "github.com/coppice-go/coppice/supervisor/suturecompat"
)

// The tests whose names begin with Contract hold suture's public behaviour. Each runs on suture
// itself and on this package.

func TestContract_ServicesStartAtServeAndAtAdd(t *testing.T) {
	onBoth(t, func(b *bench) {
		s := b.supervisor("s", suture.Spec{})
		a, c := newService("a"), newService("c")
		s.add(a)
		require.Zero(b, begun(a))
		require.Nil(b, s.services(), "it does not run")
		b.serve(s)
		require.Equal(b, 1, begun(a))
		s.add(c)
		require.Equal(b, 1, begun(c))
		require.ElementsMatch(b, []suture.Service{a, c}, s.services())
	})
}

func TestContract_AnyEndIsAFailure(t *testing.T) {
	onBoth(t, func(b *bench) {
		s := b.supervisor("s", suture.Spec{FailureThreshold: 100})
		a := newService("a")
		s.add(a)
		b.serve(s)
		other, cancel := context.WithCancel(context.Background())
		cancel()
		for _, err := range []error{errCrash, nil, other.Err(), context.DeadlineExceeded} {
			a.end(err)
			require.Equal(b, []string{"s: a terminated, restarting true"}, b.got(), "%v", err)
		}
		a.orders <- func(context.Context) error { panic("boom") }
		require.Equal(b, []string{"s: a panicked, restarting true"}, b.got())
		require.Equal(b, 6, begun(a))
	})
}

func TestContract_FieldsOfEvents(t *testing.T) {
	onBoth(t, func(b *bench) {
		s := b.supervisor("s", suture.Spec{FailureThreshold: 100, FailureDecay: 30,
			Sprint: func(v any) string { return fmt.Sprintf("<%v>", v) }})
		a := newService("a")
		s.add(a)
		b.serve(s)
		a.end(errCrash)
		synctest.Wait()
		<-time.After(30 * time.Second) // the count halves
		a.orders <- func(context.Context) error { panic("boom") }
		synctest.Wait()
		a.end(nil)
		synctest.Wait()

		require.Len(b, b.events, 3)
		for _, e := range b.events {
			require.Equal(b, s.self(), field(e, "Supervisor"))
			require.Equal(b, suture.Service(a), field(e, "Service"))
			require.Equal(b, 100.0, field(e, "FailureThreshold"))
			require.Contains(b, e.String(), "s: Failed service 'a'")
			require.Equal(b, "a", e.Map()["service_name"])
		}
		first, second, third := b.events[0], b.events[1], b.events[2]
		require.Equal(b, errCrash, field(first, "Err"))
		require.Nil(b, field(third, "Err"))
		require.Equal(b, 1.0, field(first, "CurrentFailures"))
		require.InDelta(b, 1.5, field(second, "CurrentFailures"), 1e-9)
		require.InDelta(b, 2.5, field(third, "CurrentFailures"), 1e-9)
		require.Equal(b, "<boom>", field(second, "PanicMsg"))
		require.Contains(b, field(second, "Stacktrace"), "contract_test.go")
	})
}

func TestContract_DoNotRestart(t *testing.T) {
	onBoth(t, func(b *bench) {
		s := b.supervisor("s", suture.Spec{})
		a := newService("a")
		token := s.add(a)
		b.serve(s)
		require.Equal(b, 1, begun(a))
		a.end(fmt.Errorf("%w, though also %w", suture.ErrDoNotRestart, suture.ErrTerminateSupervisorTree))
		require.Zero(b, begun(a))
		require.Empty(b, b.got())
		require.NotNil(b, s.services(), "it runs")
		require.Empty(b, s.services())
		require.NoError(b, s.remove(token))
		require.NoError(b, s.removeAndWait(token, 0))
	})
}

func TestContract_TerminateSupervisorTree(t *testing.T) {
	for _, dont := range []bool{false, true} {
		onBoth(t, func(b *bench) {
			outer := b.supervisor("outer", suture.Spec{})
			inner := b.supervisor("inner", suture.Spec{DontPropagateTermination: dont})
			a, c := newService("a"), newService("c")
			inner.add(a)
			outer.add(inner)
			outer.add(c)
			ctx, cancel := context.WithCancel(context.Background())
			done := outer.background(ctx)
			synctest.Wait()
			end := fmt.Errorf("closed for good: %w", suture.ErrTerminateSupervisorTree)
			a.end(end)
			synctest.Wait()

			if dont {
				require.Equal(b, []suture.Service{c}, outer.services())
			} else {
				require.Equal(b, end, <-done, "the very error")
			}
			require.Empty(b, b.got())
			cancel()
			synctest.Wait()
		})
	}
}

// A panic whose value is a sentinel is a failure like any other.
func TestContract_PanicWithASentinel(t *testing.T) {
	onBoth(t, func(b *bench) {
		s := b.supervisor("s", suture.Spec{})
		a := newService("a")
		s.add(a)
		b.serve(s)
		for _, err := range []error{suture.ErrTerminateSupervisorTree, suture.ErrDoNotRestart} {
			a.orders <- func(context.Context) error { panic(err) }
			require.Equal(b, []string{"s: a panicked, restarting true"}, b.got())
		}
		require.Equal(b, 3, begun(a))
	})
}

func TestContract_BackoffAndResume(t *testing.T) {
	onBoth(t, func(b *bench) {
		s := b.supervisor("s", suture.Spec{FailureThreshold: 1.5, FailureBackoff: 10 * time.Second})
		a, c := newService("a"), newService("c")
		s.add(a)
		s.add(c)
		b.serve(s)
		a.end(errCrash)
		require.Equal(b, []string{"s: a terminated, restarting true"}, b.got())
		a.end(errCrash)
		require.Equal(b, []string{"s: backoff", "s: a terminated, restarting false"}, b.got())
		require.Equal(b, 2, begun(a))

		<-time.After(10*time.Second - 1)
		require.Zero(b, begun(a))
		require.Empty(b, b.got())
		<-time.After(1)
		require.Equal(b, 1, begun(a))
		require.Equal(b, []string{"s: resume"}, b.got())

		a.end(errCrash) // the count began anew
		require.Equal(b, []string{"s: a terminated, restarting true"}, b.got())
		require.Equal(b, 1, begun(c), "it had not failed")
	})
}

// A failure during a backoff begins the backoff anew.
func TestContract_FailureDuringABackoff(t *testing.T) {
	onBoth(t, func(b *bench) {
		s := b.supervisor("s", suture.Spec{FailureThreshold: 0.5, FailureBackoff: 10 * time.Second})
		a, c := newService("a"), newService("c")
		s.add(a)
		s.add(c)
		b.serve(s)
		a.end(errCrash)
		<-time.After(6 * time.Second)
		c.end(errCrash)
		require.Equal(b, []string{"s: backoff", "s: a terminated, restarting false", "s: backoff",
			"s: c terminated, restarting false"}, b.got())

		<-time.After(6 * time.Second)
		require.Equal(b, 1, begun(a))
		<-time.After(4 * time.Second)
		require.Equal(b, 1, begun(a))
		require.Equal(b, 2, begun(c))
		require.Equal(b, []string{"s: resume"}, b.got())
	})
}

// A backoff delays restarts, and nothing else.
func TestContract_AddDuringABackoff(t *testing.T) {
	onBoth(t, func(b *bench) {
		s := b.supervisor("s", suture.Spec{FailureThreshold: 0.5})
		a, c, d := newService("a"), newService("c"), newService("d")
		paused := s.add(a)
		s.add(c)
		b.serve(s)
		began := time.Now()
		a.end(errCrash)
		synctest.Wait()
		s.add(d)
		require.Equal(b, 1, begun(d))
		require.Len(b, s.services(), 3)
		require.NoError(b, s.removeAndWait(paused, 0), "it does not run now")
		require.Zero(b, time.Since(began))

		<-time.After(time.Minute)
		require.Equal(b, 1, begun(a), "it was removed")
	})
}

func TestContract_StopDuringABackoff(t *testing.T) {
	onBoth(t, func(b *bench) {
		s := b.supervisor("s", suture.Spec{FailureThreshold: 0.5})
		a := newService("a")
		s.add(a)
		stop := b.serve(s)
		began := time.Now()
		a.end(errCrash)
		synctest.Wait()
		stop()
		require.Zero(b, time.Since(began))
		require.Equal(b, 1, begun(a))
		<-time.After(time.Minute)
		require.Equal(b, []string{"s: backoff", "s: a terminated, restarting false"}, b.got(), "and no resume")
	})
}

// RemoveAndWait ends with its own timeout. Spec.Timeout only sends an event.
func TestContract_RemoveAndWait(t *testing.T) {
	onBoth(t, func(b *bench) {
		s := b.supervisor("s", suture.Spec{Timeout: 5 * time.Second})
		short, long, ever, quick := newDeaf("short"), newDeaf("long"), newDeaf("ever"), newService("quick")
		tokens := []any{s.add(short), s.add(long), s.add(ever), s.add(quick)}
		stop := b.serve(s)
		began := time.Now()
		require.NoError(b, s.removeAndWait(tokens[3], time.Hour))
		require.Zero(b, time.Since(began))

		require.ErrorIs(b, s.removeAndWait(tokens[0], time.Second), suture.ErrTimeout)
		require.Equal(b, time.Second, time.Since(began))
		require.NoError(b, s.removeAndWait(tokens[0], 0), "it is not on the list any more")
		close(short.release)
		require.Empty(b, b.got())

		began = time.Now()
		require.ErrorIs(b, s.removeAndWait(tokens[1], 30*time.Second), suture.ErrTimeout)
		require.Equal(b, 30*time.Second, time.Since(began))
		close(long.release)
		require.Equal(b, []string{"s: long late"}, b.got())

		began = time.Now()
		time.AfterFunc(time.Hour, func() { close(ever.release) })
		require.NoError(b, s.removeAndWait(tokens[2], 0))
		require.Equal(b, time.Hour, time.Since(began))
		stop()
	})
}

func TestContract_RemoveAndWaitWhenTheSupervisorEnds(t *testing.T) {
	onBoth(t, func(b *bench) {
		s := b.supervisor("s", suture.Spec{})
		d := newDeaf("d")
		token := s.add(d)
		stop := b.serve(s)
		began := time.Now()
		time.AfterFunc(time.Second, stop)
		require.ErrorIs(b, s.removeAndWait(token, 0), suture.ErrTimeout)
		require.Equal(b, time.Second, time.Since(began), "it does not wait for the end of the stop")
		close(d.release)
		stop()
	})
}

func TestContract_RemoveDoesNotWait(t *testing.T) {
	onBoth(t, func(b *bench) {
		s, other := b.supervisor("s", suture.Spec{Timeout: time.Second}), b.supervisor("other", suture.Spec{})
		d := newDeaf("d")
		token := s.add(d)
		require.ErrorIs(b, s.remove(token), original.ErrSupervisorNotStarted)
		require.ErrorIs(b, s.removeAndWait(token, 0), original.ErrSupervisorNotStarted)
		require.ErrorIs(b, other.remove(token), suture.ErrWrongSupervisor)
		require.ErrorIs(b, other.removeAndWait(token, 0), suture.ErrWrongSupervisor)
		stop := b.serve(s)
		require.NoError(b, s.remove(token))
		require.Empty(b, s.services())
		<-time.After(time.Second)
		require.Equal(b, []string{"s: d late"}, b.got())
		close(d.release)
		stop()

		require.NoError(b, s.remove(token), "after the end")
		require.ErrorIs(b, s.removeAndWait(token, 0), original.ErrSupervisorNotRunning)
		require.Zero(b, s.add(newService("x")), "the zero token")
		require.Nil(b, s.services())
	})
}

// The end of a service that was told to end is no failure, whatever it returns.
func TestContract_EndAfterRemove(t *testing.T) {
	onBoth(t, func(b *bench) {
		s := b.supervisor("s", suture.Spec{FailureThreshold: 0.5})
		for _, end := range []func() error{
			func() error { return errCrash }, func() error { return nil },
			func() error { return suture.ErrTerminateSupervisorTree },
		} {
			a := newService("a")
			token := s.add(a)
			if len(s.services()) == 0 {
				b.serve(s)
			}
			a.orders <- func(ctx context.Context) error { <-ctx.Done(); return end() }
			require.NoError(b, s.removeAndWait(token, 0))
			require.Empty(b, b.got())
		}
		require.NotNil(b, s.services(), "it runs")
	})
}

// All services are told to end together, and have Timeout together.
func TestContract_Stop(t *testing.T) {
	onBoth(t, func(b *bench) {
		s := b.supervisor("s", suture.Spec{Timeout: 5 * time.Second})
		slow := func(name string) *service {
			x := newService(name)
			s.add(x)
			return x
		}
		a, c := slow("a"), slow("c")
		d := newDeaf("d")
		s.add(d)
		stop := b.serve(s)
		for _, x := range []*service{a, c} {
			x.orders <- func(ctx context.Context) error {
				<-ctx.Done()
				<-time.After(3 * time.Second)
				return errCrash
			}
		}
		began := time.Now()
		stop()
		require.Equal(b, 5*time.Second, time.Since(began))
		require.Equal(b, []string{"s: d late"}, b.got(), "before Serve has returned")
		require.Equal(b, []string{"d"}, s.unstopped())
		close(d.release)
	})
}

func TestContract_NothingUnstopped(t *testing.T) {
	onBoth(t, func(b *bench) {
		s := b.supervisor("s", suture.Spec{})
		s.add(newService("a"))
		b.serve(s)()
		require.Nil(b, s.unstopped())
	})
}

// A supervisor that is added gets the event hook that the other has then.
func TestContract_HookOfANestedSupervisor(t *testing.T) {
	onBoth(t, func(b *bench) {
		var top, middle, low []suture.Event
		hook := func(to *[]suture.Event) suture.EventHook {
			return func(e suture.Event) { *to = append(*to, e) }
		}
		t, m, l := b.supervisor("top", suture.Spec{EventHook: hook(&top)}),
			b.supervisor("middle", suture.Spec{EventHook: hook(&middle)}),
			b.supervisor("low", suture.Spec{EventHook: hook(&low)})
		a := newService("a")
		l.add(a)
		m.add(l)
		t.add(m)
		b.serve(t)
		a.end(errCrash)
		synctest.Wait()
		require.Empty(b, low)
		require.Empty(b, top)
		require.Len(b, middle, 1)
		require.Equal(b, l.self(), field(middle[0], "Supervisor"))
	})
}

// A service sees the values and the deadline of Serve's context, and ends with its error.
func TestContract_Context(t *testing.T) {
	type key struct{}
	onBoth(t, func(b *bench) {
		s := b.supervisor("s", suture.Spec{})
		got := make(chan error, 2)
		s.add(serviceFunc(func(ctx context.Context) error {
			at, ok := ctx.Deadline()
			got <- fmt.Errorf("value %v, deadline in %v, %v", ctx.Value(key{}), time.Until(at), ok)
			<-ctx.Done()
			got <- ctx.Err()
			return ctx.Err()
		}))
		ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), key{}, 7), time.Minute)
		defer cancel()
		done := s.background(ctx)
		require.EqualError(b, <-got, "value 7, deadline in 1m0s, true")
		require.Equal(b, context.DeadlineExceeded, <-got)
		require.Equal(b, context.DeadlineExceeded, <-done)
		require.Empty(b, b.got())
	})
}

type serviceFunc func(context.Context) error

func (f serviceFunc) Serve(ctx context.Context) error { return f(ctx) }

// The hook is called for one event after the other.
func TestContract_EventsOneAtATime(t *testing.T) {
	onBoth(t, func(b *bench) {
		busy, most, n := 0, 0, 0
		s := b.supervisor("s", suture.Spec{FailureThreshold: 1000, EventHook: func(suture.Event) {
			busy++
			most = max(most, busy)
			<-time.After(time.Second)
			n++
			busy--
		}})
		var all []*service
		for i := range 5 {
			all = append(all, newService(fmt.Sprint(i)))
			s.add(all[i])
		}
		b.serve(s)
		for _, x := range all {
			x.end(errCrash)
		}
		<-time.After(10 * time.Second)
		synctest.Wait()
		require.Equal(b, 5, n)
		require.Equal(b, 1, most)
	})
}

func TestContract_Misuse(t *testing.T) {
	onBoth(t, func(b *bench) {
		s := b.supervisor("s", suture.Spec{})
		b.serve(s)
		require.Panics(b, func() { _ = s.Serve(context.Background()) }, "it is being served")
		require.Equal(b, "s", fmt.Sprint(s.self()))
	})
	require.Panics(t, func() { (*original.Supervisor)(nil).Add(newService("a")) })
	require.Panics(t, func() { (*suture.Supervisor)(nil).Add(newService("a")) })
}

// What suture's documentation says of nested supervisors, suture does not do.
func TestUnstoppedServicesOfNestedSupervisors(t *testing.T) {
	for _, inner := range []time.Duration{time.Second, 5 * time.Second, time.Minute} {
		t.Run(inner.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				quiet := func(suture.Event) {}
				top := suture.New("top", suture.Spec{Timeout: 5 * time.Second, EventHook: quiet})
				sub := suture.New("sub", suture.Spec{Timeout: inner, EventHook: quiet})
				leaf := newDeaf("leaf")
				token := sub.Add(leaf)
				sub.Add(newService("good"))
				top.Add(sub)
				ctx, cancel := context.WithCancel(context.Background())
				done := top.ServeBackground(ctx)
				synctest.Wait()
				cancel()
				require.ErrorIs(t, <-done, context.Canceled)

				report, err := top.UnstoppedServiceReport()
				require.NoError(t, err)
				require.Equal(t, suture.UnstoppedService{SupervisorPath: []*suture.Supervisor{top, sub}, Service: leaf,
					Name: "leaf", ServiceToken: token}, report[0])
				rest := slices.DeleteFunc(report[1:], func(u suture.UnstoppedService) bool { return u.Name == "sub" })
				require.Empty(t, rest)
				if inner > 5*time.Second {
					require.Len(t, report, 2, "the nested supervisor has not stopped either")
				}
				close(leaf.release)
			})
		})
	}
}

// An event can be asked which supervisor it is about, and other packages' hooks get suture's types.
func TestEventsAreAboutOurSupervisor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var top *suture.Supervisor
		var about []bool
		var theirs []suture.Event
		forTheirs := suture.SutureHook(func(e suture.Event) { theirs = append(theirs, e) })
		top = suture.New("top", suture.Spec{FailureThreshold: 0.5, EventHook: func(event suture.Event) {
			switch event := event.(type) {
			case suture.EventServiceTerminate:
				about = append(about, event.Supervisor == top)
			case suture.EventBackoff:
				about = append(about, event.Supervisor == top)
			}
			forTheirs(event)
		}})
		a := newService("a")
		top.Add(a)
		ctx, cancel := context.WithCancel(context.Background())
		done := top.ServeBackground(ctx)
		a.end(errors.New("crash"))
		synctest.Wait()
		cancel()
		<-done
		require.Equal(t, []bool{true, true}, about)
		require.Equal(t, "top: Entering the backoff state.", theirs[0].(original.EventBackoff).String())
		require.Equal(t, "top", theirs[1].(original.EventServiceTerminate).Supervisor.Name)
	})
}
