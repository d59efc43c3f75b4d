package supervisor

import (
	"context"
	"math"
	"time"

	"github.com/thejerf/suture/v4"
)

// Service is run by a child. Serve must end when ctx is done, and its return is the end of the
// service. The type is suture's, so every suture service is a Service.
type Service = suture.Service

// ServiceFunc is a function that is a Service.
type ServiceFunc func(ctx context.Context) error

// Serve calls f.
func (f ServiceFunc) Serve(ctx context.Context) error { return f(ctx) }

// StartFunc makes the service of one incarnation. It is called once per incarnation, in the
// incarnation's own goroutine, so its panic, hang or Goexit is the child's. It must return fresh
// state every time. It may return [ErrIgnore] (OTP rule 16). Any other error is a failed start, and
// so is a nil Service. ctx is the context that Serve will get.
type StartFunc func(ctx context.Context) (Service, error)

// Start makes a StartFunc of a function that is the whole service, for children without state of
// their own.
func Start(serve func(ctx context.Context) error) StartFunc {
	return func(context.Context) (Service, error) { return ServiceFunc(serve), nil }
}

// Nested makes a StartFunc that makes a new supervisor for each incarnation. To call the
// supervisor's methods, make it with New instead, and return it from your own StartFunc: a
// Supervisor is a Service, and one incarnation after another may serve it. The same holds for a
// Dynamic.
func Nested(spec Spec) StartFunc {
	return func(context.Context) (Service, error) {
		s, err := New(spec)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}

// Restart decides which ends of a child lead to a restart (OTP rule 36).
type Restart uint8

const (
	// Permanent children are always restarted.
	Permanent Restart = iota
	// Transient children are restarted only after an abnormal end.
	Transient
	// Temporary children are never restarted, and are forgotten when they end.
	Temporary
)

// Strategy decides which children are restarted together with a failed child (OTP rules 48 to 50).
type Strategy uint8

const (
	// OneForOne restarts the failed child alone.
	OneForOne Strategy = iota
	// OneForAll stops all others in reverse start order, then starts all in start order.
	OneForAll
	// RestForOne does the same with the failed child and the children that were started after it.
	RestForOne
)

// AutoShutdown decides whether ends of significant children stop the supervisor (OTP rules 65 to
// 69).
type AutoShutdown uint8

const (
	// Never ignores such ends. A significant child is then an error in the specification.
	Never AutoShutdown = iota
	// AnySignificant stops the supervisor at the first such end.
	AnySignificant
	// AllSignificant stops it when no significant child is left.
	AllSignificant
)

// Ack decides what acknowledges the start of a child, so that the next child may start.
type Ack uint8

const (
	// AckStart takes the return of Child.Start as the acknowledgment.
	AckStart Ack = iota
	// AckReady waits until the service calls [Ready] in Serve. A child that is a supervisor is
	// always of this kind.
	AckReady
)

// OrphanPolicy decides what follows when an incarnation has not ended within its shutdown time (OTP
// rule 60).
type OrphanPolicy uint8

const (
	// Escalate makes the supervisor give up at once with [ErrOrphan], whatever its limit. The
	// supervisor's parent counts one attempt.
	Escalate OrphanPolicy = iota
	// Wait reports the orphan and continues to wait for it.
	Wait
	// Abandon reports the orphan and continues without it. A new incarnation may run beside the old
	// one.
	Abandon
)

const (
	// Brutal as a shutdown time cancels the child and does not wait for it. A child that still runs
	// is listed by Orphans until it ends.
	Brutal time.Duration = -1
	// Infinity as a shutdown or start time is no limit.
	Infinity time.Duration = math.MaxInt64

	// DefaultShutdown is the shutdown time of a worker that specifies none. The default of a
	// supervisor is Infinity.
	DefaultShutdown = 5 * time.Second
	// DefaultStartTimeout bounds the start of a worker that specifies no bound. The start of a
	// supervisor is bounded by the starts of its children.
	DefaultStartTimeout = 30 * time.Second

	// Unlimited as Intensity.Max says that the restarts may go on for ever, on purpose: Lint does
	// not warn of it. It wants a Backoff. OTP has no such value.
	Unlimited = math.MaxInt
)

// Intensity limits restarts: the supervisor gives up on more than Max attempts within Period (OTP
// rules 39 to 45). Only the zero value means the default, 1 in 5 s. Max without Period is an error.
// {0, 5 * time.Second} tolerates no restart.
type Intensity struct {
	Max    int
	Period time.Duration
}

// Backoff delays restarts, which OTP never does. The n-th attempt in a row waits Min·Factor^(n-1),
// at most Max, plus a random part of up to Jitter (0 to 1) of that. The row ends when an
// incarnation has lived longer than Max. The zero value is no delay. Factor 0 means 2, and Max 0
// means Min. In a group restart, the whole group waits for the delay of the child that failed.
// TerminateChild of that child, or a Reload to OneForOne, ends the delay for the others.
type Backoff struct {
	Min, Max time.Duration
	Factor   float64
	Jitter   float64
}

// Child specifies one child (OTP rule 5).
type Child struct {
	// ID names the child among its siblings and in paths. It must not be empty or contain a slash.
	ID string
	// Start makes the service of one incarnation.
	Start StartFunc
	// Kind declares what Start makes, as OTP's type does. For our own types it matters only before
	// the first start (for counts and Lint), because the supervisor then sees what Start made. Set
	// it for any other supervisor, such as a suture tree, so that its default shutdown time is
	// Infinity, as it is for ours (OTP rules 30 and 64).
	Kind Kind
	// Restart defaults to Permanent.
	Restart Restart
	// Significant makes an end of this child by itself count for its supervisor's AutoShutdown: any
	// end of a Temporary child, a quiet end of a Transient child. It is an error with Permanent,
	// because such a child never ends for good, and where AutoShutdown is Never.
	Significant bool
	// Ack defaults to AckStart.
	Ack Ack
	// Shutdown is the time that the child may take to end after it has been told to: a duration,
	// Brutal or Infinity. Zero is DefaultShutdown, or Infinity for a supervisor.
	Shutdown time.Duration
	// StartTimeout bounds the start up to its acknowledgment. Zero is DefaultStartTimeout, or
	// Infinity for a supervisor.
	StartTimeout time.Duration
	// Backoff delays restarts of this child. Zero is no delay.
	Backoff Backoff
	// Orphan defaults to Escalate.
	Orphan OrphanPolicy
}

// Spec specifies a supervisor (OTP rule 1).
type Spec struct {
	// Name is the root's name in events. A nested supervisor is known by the ID of its child
	// instead.
	Name string
	// Strategy defaults to OneForOne.
	Strategy Strategy
	// Intensity defaults to 1 in 5 s.
	Intensity Intensity
	// AutoShutdown defaults to Never.
	AutoShutdown AutoShutdown
	// Build returns the children in start order. It runs once per run of the supervisor, so
	// resources that the children share are fresh too. It may return ErrIgnore (OTP rule 12). Its
	// panic is a failed start. A nil Build means no children.
	Build func(ctx context.Context) ([]Child, error)
	// Observers get the events of this supervisor and of all supervisors and children below it.
	// Failures that no observer gets are written to the default logger of log/slog: abnormal ends,
	// failed restarts, give-ups and orphans, within limits; see Discard.
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
