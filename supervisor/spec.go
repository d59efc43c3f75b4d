package supervisor

import (
	"context"
	"math"
	"time"

	"github.com/thejerf/suture/v4"
)

// Service is what a child runs: Serve returns when the service has ended, and ends when ctx is
// done. It is suture's type, so every suture service is one of ours.
type Service = suture.Service

// ServiceFunc makes a Service of a function.
type ServiceFunc func(ctx context.Context) error

// Serve calls f.
func (f ServiceFunc) Serve(ctx context.Context) error { return f(ctx) }

// StartFunc makes one incarnation's service. It is called once per incarnation, in the
// incarnation's own goroutine (its panic, hang or Goexit is the child's), and must return fresh
// state every time. It may return [ErrIgnore] (OTP rule 16); any other error, and a nil Service, is
// a failed start. The context is the one Serve will get.
type StartFunc func(ctx context.Context) (Service, error)

// Start makes a StartFunc of a function that is the whole service, for children without state of
// their own.
func Start(serve func(ctx context.Context) error) StartFunc {
	return func(context.Context) (Service, error) { return ServiceFunc(serve), nil }
}

// Nested makes a StartFunc that starts a supervisor, new for each incarnation. To call its methods
// make it with New instead, and return it from a StartFunc of your own: it is a Service, and may be
// served by one incarnation after another. So is a Dynamic.
func Nested(spec Spec) StartFunc {
	return func(context.Context) (Service, error) {
		s, err := New(spec)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}

// Restart says which ends of a child call for a restart (OTP rule 36).
type Restart uint8

const (
	// Permanent children are always restarted.
	Permanent Restart = iota
	// Transient children are restarted after an abnormal end only.
	Transient
	// Temporary children are never restarted, and forgotten when they end.
	Temporary
)

// Strategy says who is restarted together with a failed child (OTP rules 48 to 50).
type Strategy uint8

const (
	// OneForOne restarts the failed child alone.
	OneForOne Strategy = iota
	// OneForAll stops all others in reverse start order, then starts all in start order.
	OneForAll
	// RestForOne does so with the failed child and those that were started after it.
	RestForOne
)

// AutoShutdown says whether ends of significant children stop the supervisor (OTP rules 65 to 69).
type AutoShutdown uint8

const (
	// Never ignores them; a significant child is then an error in the spec.
	Never AutoShutdown = iota
	// AnySignificant stops the supervisor at the first such end.
	AnySignificant
	// AllSignificant stops it when no significant child is left.
	AllSignificant
)

// Ack says what acknowledges a start, that is, when the next child may start.
type Ack uint8

const (
	// AckStart takes the return of Child.Start for the acknowledgment.
	AckStart Ack = iota
	// AckReady waits until the service calls [Ready] from Serve. A supervisor as a child always is
	// of this kind.
	AckReady
)

// OrphanPolicy says what follows when an incarnation has not ended within its shutdown time (OTP
// rule 60).
type OrphanPolicy uint8

const (
	// Escalate makes the supervisor give up at once with [ErrOrphan], whatever its limit. Its
	// parent counts one attempt.
	Escalate OrphanPolicy = iota
	// Wait reports the orphan and keeps waiting for it.
	Wait
	// Abandon reports the orphan and goes on without it: a new incarnation may run beside the old
	// one.
	Abandon
)

const (
	// Brutal as a shutdown time cancels the child and does not wait for it. A child that still runs
	// is listed by Orphans until it ends.
	Brutal time.Duration = -1
	// Infinity as a shutdown or start time is no limit.
	Infinity time.Duration = math.MaxInt64

	// DefaultShutdown is the shutdown time of a worker that names none. That of a supervisor is
	// Infinity.
	DefaultShutdown = 5 * time.Second
	// DefaultStartTimeout bounds the start of a worker that names no bound. A supervisor's start is
	// bounded by those of its children.
	DefaultStartTimeout = 30 * time.Second
)

// Intensity limits restarts: more than Max attempts within Period, and the supervisor gives up (OTP
// rules 39 to 45). Only the zero value means the default, 1 in 5 s. Max without Period is an error;
// {0, 5 * time.Second} tolerates none.
type Intensity struct {
	Max    int
	Period time.Duration
}

// Backoff delays restarts, which OTP never does: the n-th attempt in a row waits Min·Factor^(n-1),
// at most Max, plus a random part of up to Jitter (0 to 1) of that. The row ends when an
// incarnation has lived longer than Max. The zero value is no delay. Factor 0 means 2, Max 0 means
// Min. In a group restart all of the group wait for the delay of the child that failed;
// TerminateChild of that child, or a Reload to OneForOne, ends the delay for the others.
type Backoff struct {
	Min, Max time.Duration
	Factor   float64
	Jitter   float64
}

// Child specifies one child (OTP rule 5).
type Child struct {
	// ID names the child among its siblings and in paths: not empty, without a slash.
	ID string
	// Start makes the service of one incarnation.
	Start StartFunc
	// Kind declares what Start makes, as OTP's type does. What it made is seen, so that this
	// matters only before the first start (for counts and Lint), and for a supervisor of another
	// make, a suture tree for instance, which then is waited for without limit, as one of ours is
	// (OTP rules 30 and 64).
	Kind Kind
	// Restart defaults to Permanent.
	Restart Restart
	// Significant makes an end of this child by itself count for its supervisor's AutoShutdown: any
	// end of a Temporary one, a quiet one of a Transient one. It is an error with Permanent, which
	// never ends for good, and where AutoShutdown is Never.
	Significant bool
	// Ack defaults to AckStart.
	Ack Ack
	// Shutdown is how long the child may take to end once told: a time, Brutal or Infinity. Zero is
	// DefaultShutdown, for a supervisor Infinity.
	Shutdown time.Duration
	// StartTimeout bounds the start up to its acknowledgment. Zero is DefaultStartTimeout, for a
	// supervisor Infinity.
	StartTimeout time.Duration
	// Backoff delays restarts of this child. Zero is none.
	Backoff Backoff
	// Orphan defaults to Escalate.
	Orphan OrphanPolicy
}

// Spec specifies a supervisor (OTP rule 1).
type Spec struct {
	// Name is the root's name in events; a nested supervisor is known by the ID of the child it is.
	Name string
	// Strategy defaults to OneForOne.
	Strategy Strategy
	// Intensity defaults to 1 in 5 s.
	Intensity Intensity
	// AutoShutdown defaults to Never.
	AutoShutdown AutoShutdown
	// Build returns the children in start order. It runs once per run of the supervisor, so what
	// children share is fresh too. It may return ErrIgnore (OTP rule 12). Nil is no children. A
	// panic is a failed start.
	Build func(ctx context.Context) ([]Child, error)
	// Observers get the events of this supervisor and of all below it.
	Observers []Observer
}

// Children makes a Build function of children that share nothing.
func Children(children ...Child) func(context.Context) ([]Child, error) {
	return func(context.Context) ([]Child, error) { return children, nil }
}

func (r Restart) String() string {
	return name("Restart", int(r), "permanent", "transient", "temporary")
}

func (s Strategy) String() string {
	return name("Strategy", int(s), "one_for_one", "one_for_all", "rest_for_one")
}

func (a AutoShutdown) String() string {
	return name("AutoShutdown", int(a), "never", "any_significant", "all_significant")
}

func (a Ack) String() string { return name("Ack", int(a), "start", "ready") }

func (p OrphanPolicy) String() string {
	return name("OrphanPolicy", int(p), "escalate", "wait", "abandon")
}
