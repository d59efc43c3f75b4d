// Package suturecompat has suture v4's API on the engine of package supervisor. To migrate from
// suture, import it under the name suture.
//
// It keeps suture's contract: services are started at once and never wait for one another; failures
// are counted with a decay; too many failures pause all restarts and do not make the supervisor
// give up; ErrDoNotRestart removes a service; ErrTerminateSupervisorTree stops the tree; all
// services are told to stop together.
//
// It differs from suture in this: the end by runtime.Goexit has an error in its event;
// UnstoppedServiceReport covers nested supervisors, as suture's documentation says, and services
// that were removed and still run; a Supervisor that is served again starts its services again;
// Services is in the order of Add; the event hook may call the supervisor. The event types are this
// package's own, so that Supervisor in an event is the Supervisor of this package; SutureHook is
// for hooks that want suture's. Package supervisor sees the tree: events, orphans and Kill work.
package suturecompat

import (
	"context"
	"fmt"
	"log"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/thejerf/suture/v4"

	"github.com/coppice-go/coppice/supervisor"
)

// These types are suture's own.
type (
	Service           = suture.Service
	Spec              = suture.Spec
	Event             = suture.Event
	EventType         = suture.EventType
	EventHook         = suture.EventHook
	SprintFunc        = suture.SprintFunc
	Jitter            = suture.Jitter
	NoJitter          = suture.NoJitter
	DefaultJitter     = suture.DefaultJitter
	DeprecatedService = suture.DeprecatedService
)

// The event types.
const (
	EventTypeStopTimeout      = suture.EventTypeStopTimeout
	EventTypeServicePanic     = suture.EventTypeServicePanic
	EventTypeServiceTerminate = suture.EventTypeServiceTerminate
	EventTypeBackoff          = suture.EventTypeBackoff
	EventTypeResume           = suture.EventTypeResume
)

// Suture's sentinels.
var (
	ErrDoNotRestart            = suture.ErrDoNotRestart
	ErrTerminateSupervisorTree = suture.ErrTerminateSupervisorTree
	ErrWrongSupervisor         = suture.ErrWrongSupervisor
	ErrTimeout                 = suture.ErrTimeout
	ErrSupervisorNotTerminated = suture.ErrSupervisorNotTerminated
	ErrSupervisorNotRunning    = suture.ErrSupervisorNotRunning
	ErrSupervisorNotStarted    = suture.ErrSupervisorNotStarted
)

// AsService returns s as a Service, as suture.AsService does.
func AsService(s DeprecatedService) Service { return suture.AsService(s) }

// HasSupervisor is implemented by services that contain a Supervisor, like suture's interface of
// that name.
type HasSupervisor interface{ GetSupervisor() *Supervisor }

// ServiceToken identifies a service that was added.
type ServiceToken struct{ supervisor, service uint64 }

// UnstoppedService is a service that did not stop in time. SupervisorPath leads to it from the
// supervisor that was asked.
type UnstoppedService struct {
	SupervisorPath []*Supervisor
	Service        Service
	Name           string
	ServiceToken   ServiceToken
}

// UnstoppedServiceReport lists services that did not stop in time.
type UnstoppedServiceReport []UnstoppedService

// Supervisor has the methods of suture.Supervisor. It is safe for concurrent use.
type Supervisor struct {
	Name string

	id    uint64
	spec  Spec
	hooks chan struct{} // has room while the event hook is not called; a lock that virtual time passes

	mu       sync.Mutex
	state    state
	services []*entry // in the order of Add
	removed  []*entry // told to stop, and not known to have stopped
	next     uint64
	ctx      context.Context // of the newest Serve; ended when that is told to end, or has ended
	engine   *supervisor.Dynamic[*entry]
	up       chan struct{} // closed when the engine runs, or will not
	ended    chan struct{} // closed when the newest Serve has ended
	cause    error         // that a service returned to terminate the tree
	report   UnstoppedServiceReport

	failures   float64
	lastFail   time.Time
	resume     chan struct{} // not nil while paused; closed at the end of the pause
	pauseTimer *time.Timer
}

type state uint8

const (
	notStarted state = iota
	serving
	terminated
)

var lastID atomic.Uint64

// New returns a supervisor, as suture.New does. An unset field of the spec gets suture's default.
func New(name string, spec Spec) *Supervisor {
	if spec.FailureDecay == 0 {
		spec.FailureDecay = 30
	}
	if spec.FailureThreshold == 0 {
		spec.FailureThreshold = 5
	}
	if spec.FailureBackoff == 0 {
		spec.FailureBackoff = 15 * time.Second
	}
	if spec.BackoffJitter == nil {
		spec.BackoffJitter = &DefaultJitter{}
	}
	if spec.Timeout == 0 {
		spec.Timeout = 10 * time.Second
	}
	if spec.EventHook == nil {
		spec.EventHook = func(e Event) { log.Print(e) }
	}
	if spec.Sprint == nil {
		spec.Sprint = func(v any) string { return fmt.Sprint(v) }
	}
	return &Supervisor{Name: name, id: lastID.Add(1), spec: spec, hooks: make(chan struct{}, 1),
		ended: make(chan struct{})}
}

// NewSimple returns a supervisor with suture's defaults.
func NewSimple(name string) *Supervisor { return New(name, Spec{}) }

// GetSupervisor returns s.
func (s *Supervisor) GetSupervisor() *Supervisor { return s }

// String returns the name.
func (s *Supervisor) String() string { return s.Name }

// Add adds a service, and starts it at once if the supervisor runs, even during a backoff. If the
// service is a supervisor, it gets the present event hook of s. After the end of Serve, Add does
// nothing.
func (s *Supervisor) Add(service Service) ServiceToken {
	if s == nil {
		panic("suturecompat: Add on a nil Supervisor")
	}

	if has, ok := service.(HasSupervisor); ok {
		if sub := has.GetSupervisor(); sub != nil {
			hook := s.hook()
			sub.mu.Lock()
			sub.spec.EventHook = hook
			sub.mu.Unlock()
		}
	}

	s.mu.Lock()

	if s.state == terminated || s.state == serving && s.ctx.Err() != nil {
		s.mu.Unlock()
		return ServiceToken{}
	}

	e := &entry{token: ServiceToken{s.id, s.next}, service: service, name: nameOf(service), gone: make(chan struct{})}
	s.next++
	s.services = append(s.services, e)
	engine := s.engine
	s.mu.Unlock()

	if engine != nil {
		s.start(engine, e)
	}

	return e.token
}

func nameOf(service Service) string {
	if s, ok := service.(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprintf("%#v", service)
}

func (s *Supervisor) start(engine *supervisor.Dynamic[*entry], e *entry) {
	// The start of an entry cannot fail; an engine that has just ended does not need it.
	_, _ = engine.StartChild(context.Background(), e.id(), e)
}

func (e *entry) id() string { return strconv.FormatUint(e.token.service, 10) }

// Serve runs the supervisor until ctx is done, or a service returns ErrTerminateSupervisorTree. A
// nil ctx means context.Background().
func (s *Supervisor) Serve(ctx context.Context) error { return s.run(ctx, func() {}) }

// ServeBackground runs Serve in a goroutine and returns when the supervisor runs. It sends Serve's
// error to the channel.
func (s *Supervisor) ServeBackground(ctx context.Context) <-chan error {
	result := make(chan error, 1)
	up := make(chan struct{})
	go func() { result <- s.run(ctx, func() { close(up) }) }()
	<-up
	return result
}

// run implements Serve. It calls running once the services have been started.
func (s *Supervisor) run(ctx context.Context, running func()) error {
	if s == nil {
		panic("suturecompat: Serve on a nil Supervisor")
	}
	if s.id == 0 {
		panic("suturecompat: Serve on a Supervisor that New did not make")
	}
	if ctx == nil {
		ctx = context.Background()
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	begun := make(chan struct{})
	engine, err := s.newEngine(sync.OnceFunc(func() { close(begun) }))
	if err != nil {
		return err
	}

	s.begin(ctx)
	done := make(chan error, 1)
	go func() { done <- engine.Serve(ctx) }()

	select {
	case <-begun:
	case err = <-done:
		done <- err
	}

	s.mu.Lock()
	s.engine = engine
	close(s.up)
	services := slices.Clone(s.services)
	s.mu.Unlock()

	for _, e := range services {
		s.start(engine, e)
	}
	running()

	err = <-done
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	cause := s.end(cancel)

	switch {
	case cause == nil:
		return err // the engine's own, if it was killed
	case s.spec.DontPropagateTermination:
		return ErrDoNotRestart
	default:
		return cause
	}
}

// newEngine makes the engine of one run. It calls begun when the engine runs, and perhaps later
// when one below it does.
func (s *Supervisor) newEngine(begun func()) (*supervisor.Dynamic[*entry], error) {
	return supervisor.NewDynamic(supervisor.DynamicSpec[*entry]{
		Name: "suture", Restart: supervisor.Permanent, Shutdown: s.spec.Timeout, Orphan: supervisor.Abandon,
		Intensity: supervisor.Intensity{Max: math.MaxInt, Period: time.Nanosecond},
		Start: func(_ context.Context, e *entry) (Service, error) {
			return supervisor.ServiceFunc(func(ctx context.Context) error { return s.serve(ctx, e) }), nil
		},
		Observers: []supervisor.Observer{supervisor.ObserverFunc(func(e supervisor.Event) {
			if _, is := e.(supervisor.SupervisorStarted); is {
				begun()
			}
		})},
	})
}

// begin makes s one that is served.
func (s *Supervisor) begin(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()

	switch s.state {
	case serving:
		panic("suturecompat: Serve on a Supervisor that is being served")
	case terminated:
		s.ended = make(chan struct{})
	}

	s.state, s.ctx, s.engine, s.up, s.cause, s.report, s.removed = serving, ctx, nil, make(chan struct{}), nil, nil, nil
	s.failures, s.lastFail, s.resume, s.pauseTimer = 0, time.Time{}, nil, nil
}

// end reports what did not stop in time, and makes s one that is not served. It returns the error
// with which a service terminated the tree, nil if none did.
func (s *Supervisor) end(cancel func()) error {
	for _, e := range s.unstopped() {
		s.timeout(e)
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	if s.pauseTimer != nil {
		s.pauseTimer.Stop()
	}
	s.report = s.reportLocked()
	s.state, s.engine, s.pauseTimer, s.resume = terminated, nil, nil, nil
	cancel()
	close(s.ended)

	return s.cause
}

// unstopped returns the entries that still run.
func (s *Supervisor) unstopped() (out []*entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range slices.Concat(s.services, s.removed) {
		if e.running {
			out = append(out, e)
		}
	}
	return out
}

// Services returns the services, or nil if the supervisor does not run.
func (s *Supervisor) Services() []Service {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.state != serving || s.ctx.Err() != nil {
		return nil
	}

	out := make([]Service, 0, len(s.services))
	for _, e := range s.services {
		out = append(out, e.service)
	}

	return out
}

// UnstoppedServiceReport waits for the end of Serve and returns the services that did not stop in
// time. A nested supervisor that did not stop in time comes after those of its services that still
// ran then. The report is nil if there are none.
func (s *Supervisor) UnstoppedServiceReport() (UnstoppedServiceReport, error) {
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	<-ended
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.report, nil
}

// reportLocked reports the services that still run, and those of nested supervisors. s.mu is held,
// and the mutexes of nested supervisors are taken after it.
func (s *Supervisor) reportLocked() (report UnstoppedServiceReport) {
	for _, e := range slices.Concat(s.services, s.removed) {
		if has, ok := e.service.(HasSupervisor); ok && has.GetSupervisor() != nil {
			for _, u := range has.GetSupervisor().present() {
				u.SupervisorPath = append([]*Supervisor{s}, u.SupervisorPath...)
				report = append(report, u)
			}
		}
		if e.running {
			report = append(report, UnstoppedService{SupervisorPath: []*Supervisor{s}, Service: e.service, Name: e.name,
				ServiceToken: e.token})
		}
	}

	return report
}

// present returns the report of a supervisor that may not have ended yet.
func (s *Supervisor) present() UnstoppedServiceReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == serving {
		return s.reportLocked()
	}
	return s.report
}
