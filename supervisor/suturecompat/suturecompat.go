// Package suturecompat has suture v4's API on the engine of package supervisor. To migrate from
// suture, import it under the name suture.
//
// It keeps suture's contract: services are started at once and never wait for one another; failures
// are counted with a decay; too many failures pause all restarts and do not make the supervisor
// give up; ErrDoNotRestart removes a service; ErrTerminateSupervisorTree stops the tree; all
// services are told to stop together.
//
// It differs from suture in this: runtime.Goexit in a service is a failure and not a success;
// UnstoppedServiceReport covers nested supervisors; a Supervisor that is served again starts its
// services again. Package supervisor sees the tree: events, orphans and Kill work.
package suturecompat

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math"
	"runtime/debug"
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
	Service               = suture.Service
	Spec                  = suture.Spec
	Event                 = suture.Event
	EventType             = suture.EventType
	EventHook             = suture.EventHook
	EventStopTimeout      = suture.EventStopTimeout
	EventServicePanic     = suture.EventServicePanic
	EventServiceTerminate = suture.EventServiceTerminate
	EventBackoff          = suture.EventBackoff
	EventResume           = suture.EventResume
	SprintFunc            = suture.SprintFunc
	Jitter                = suture.Jitter
	NoJitter              = suture.NoJitter
	DefaultJitter         = suture.DefaultJitter
	DeprecatedService     = suture.DeprecatedService
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

	id   uint64
	spec Spec
	// standIn is the suture.Supervisor that suture's events point at.
	standIn *suture.Supervisor

	mu       sync.Mutex
	state    state
	services []*entry // in the order of Add
	next     uint64
	engine   *supervisor.Dynamic[*entry]
	at       string        // path of the engine
	removed  []*entry      // told to stop, and not known to have stopped
	ended    chan struct{} // closed when the newest Serve has ended
	report   UnstoppedServiceReport

	failures float64
	lastFail time.Time
	resume   chan struct{} // not nil while paused; closed at the end of the pause
}

type state uint8

const (
	notStarted state = iota
	serving
	terminated
)

type entry struct {
	token   ServiceToken
	service Service
	name    string
}

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
	return &Supervisor{
		Name: name, id: lastID.Add(1), spec: spec, ended: make(chan struct{}),
		standIn: suture.New(name, Spec{EventHook: func(Event) {}}),
	}
}

// NewSimple returns a supervisor with suture's defaults.
func NewSimple(name string) *Supervisor { return New(name, Spec{}) }

// GetSupervisor returns s.
func (s *Supervisor) GetSupervisor() *Supervisor { return s }

// String returns the name.
func (s *Supervisor) String() string { return s.Name }

// Add adds a service, and starts it if the supervisor runs. If the service is a supervisor, it gets
// the event hook of s. After the end of Serve, Add does nothing.
func (s *Supervisor) Add(service Service) ServiceToken {
	if s == nil {
		panic("suturecompat: Add on a nil Supervisor")
	}

	if has, ok := service.(HasSupervisor); ok {
		if sub := has.GetSupervisor(); sub != nil {
			sub.mu.Lock()
			sub.spec.EventHook = s.hook()
			sub.mu.Unlock()
		}
	}

	s.mu.Lock()

	if s.state == terminated {
		s.mu.Unlock()
		return ServiceToken{}
	}

	e := &entry{token: ServiceToken{s.id, s.next}, service: service, name: nameOf(service)}
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

func (s *Supervisor) hook() EventHook {
	return func(e Event) {
		s.mu.Lock()
		hook := s.spec.EventHook
		s.mu.Unlock()
		hook(e)
	}
}

func (s *Supervisor) start(engine *supervisor.Dynamic[*entry], e *entry) {
	// The start of an entry cannot fail; an engine that has just ended does not need it.
	_, _ = engine.StartChild(context.Background(), e.id(), e)
}

func (e *entry) id() string { return strconv.FormatUint(e.token.service, 10) }

// Serve runs the supervisor until ctx is done, or a service returns ErrTerminateSupervisorTree. A
// nil ctx means context.Background().
func (s *Supervisor) Serve(ctx context.Context) error { return s.run(ctx, func() {}) }

// run implements Serve. It calls running once Add and Remove reach the engine.
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

	up := make(chan struct{})
	begun := sync.OnceFunc(func() { close(up) })
	engine, err := supervisor.NewDynamic(supervisor.DynamicSpec[*entry]{
		Name: "suture", Restart: supervisor.Permanent, Shutdown: s.spec.Timeout, Orphan: supervisor.Abandon,
		Intensity: supervisor.Intensity{Max: math.MaxInt, Period: time.Nanosecond},
		Start: func(_ context.Context, e *entry) (Service, error) {
			return supervisor.ServiceFunc(func(ctx context.Context) error { return s.serve(ctx, e) }), nil
		},
		Observers: []supervisor.Observer{supervisor.ObserverFunc(func(e supervisor.Event) { s.observe(e, begun) })},
	})

	if err != nil {
		return err
	}

	s.mu.Lock()

	if s.state == serving {
		s.mu.Unlock()
		panic("suturecompat: Serve on a Supervisor that is being served")
	}

	if s.state == terminated {
		s.ended = make(chan struct{})
	}

	s.state, s.report, s.removed, s.failures, s.lastFail, s.resume = serving, nil, nil, 0, time.Time{}, nil
	s.mu.Unlock()

	done := make(chan error, 1)
	go func() { done <- engine.Serve(ctx) }()

	select {
	case <-up:
	case err = <-done:
		done <- err
	}

	s.mu.Lock()
	s.engine, s.at = engine, engine.Tree().Path
	services := slices.Clone(s.services)
	s.mu.Unlock()

	running()
	for _, e := range services {
		s.start(engine, e)
	}

	err = <-done
	report := s.unstopped(engine)
	s.mu.Lock()
	s.state, s.engine, s.report = terminated, nil, report
	close(s.ended)
	s.mu.Unlock()

	switch {
	case errors.Is(err, ErrTerminateSupervisorTree) && s.spec.DontPropagateTermination:
		return ErrDoNotRestart
	case errors.Is(err, ErrTerminateSupervisorTree):
		return err
	}

	return ctx.Err()
}

// observe calls begun when e says that the engine runs, and reports a service that did not stop in
// time.
func (s *Supervisor) observe(e supervisor.Event, begun func()) {
	switch e := e.(type) {
	case supervisor.SupervisorStarted:
		begun()
	case supervisor.ChildOrphaned:
		if x := s.entryAt(e.Path); x != nil {
			s.timeout(x)
		}
	}
}

func (s *Supervisor) timeout(e *entry) {
	s.hook()(EventStopTimeout{Supervisor: s.standIn, SupervisorName: s.Name, Service: e.service, ServiceName: e.name})
}

// entryAt returns the entry at a path of the tree, or nil.
func (s *Supervisor) entryAt(path string) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.services {
		if s.path(e) == path {
			return e
		}
	}
	return nil
}

// path returns an entry's path. s.mu is held.
func (s *Supervisor) path(e *entry) string {
	if s.at == "" {
		return e.id()
	}
	return s.at + "/" + e.id()
}

// ServeBackground runs Serve in a goroutine and returns when the supervisor runs. It sends Serve's
// error to the channel.
func (s *Supervisor) ServeBackground(ctx context.Context) <-chan error {
	result := make(chan error, 1)
	up := make(chan struct{})
	go func() { result <- s.run(ctx, func() { close(up) }) }()
	<-up
	return result
}

// serve runs a service once: it waits until a pause is over, serves, and counts a failure.
func (s *Supervisor) serve(ctx context.Context, e *entry) (err error) {
	for {
		s.mu.Lock()
		pause := s.resume
		s.mu.Unlock()

		if pause == nil {
			break
		}

		select {
		case <-pause:
		case <-ctx.Done():
			return ctx.Err()
		}
	}

	returned := false
	defer func() {
		if returned {
			return
		}

		v := recover()
		if v == nil { // runtime.Goexit
			s.terminated(e, supervisor.ErrGoexit)
			return
		}

		stack := debug.Stack()

		if s.spec.PassThroughPanics {
			// In a goroutine where nothing recovers it, the panic ends the process.
			go panic(fmt.Sprintf("%s: service %s: %v\n%s", s.Name, e.name, v, stack))
			select {}
		}

		s.fail(func(failures, threshold float64, again bool) Event {
			return EventServicePanic{Supervisor: s.standIn, SupervisorName: s.Name, Service: e.service,
				ServiceName: e.name, CurrentFailures: failures, FailureThreshold: threshold, Restarting: again,
				PanicMsg: s.spec.Sprint(v), Stacktrace: string(stack)}
		})
		err = &supervisor.PanicError{Value: v, Stack: stack}
	}()

	err = e.service.Serve(ctx)
	returned = true

	if ctx.Err() != nil || errors.Is(err, ErrDoNotRestart) || errors.Is(err, ErrTerminateSupervisorTree) {
		if errors.Is(err, ErrDoNotRestart) {
			s.drop(e)
		}
		return err
	}

	told := err
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		told = fmt.Errorf("from another context, not the service's, so it is restarted: %w", err)
	}

	s.terminated(e, told)

	return err
}

// terminated counts a failure and reports that the service ended with err.
func (s *Supervisor) terminated(e *entry, err error) {
	s.fail(func(failures, threshold float64, again bool) Event {
		return EventServiceTerminate{Supervisor: s.standIn, SupervisorName: s.Name, Service: e.service,
			ServiceName: e.name, CurrentFailures: failures, FailureThreshold: threshold, Restarting: again, Err: err}
	})
}

// fail counts a failure as suture does, and gives the event that event makes to the event hook. The
// count halves every FailureDecay seconds. When it exceeds the threshold, all restarts pause.
func (s *Supervisor) fail(event func(failures, threshold float64, again bool) Event) {
	s.mu.Lock()
	now := time.Now()

	if s.lastFail.IsZero() {
		s.failures = 1
	} else {
		s.failures = s.failures*math.Pow(.5, now.Sub(s.lastFail).Seconds()/s.spec.FailureDecay) + 1
	}

	s.lastFail = now
	var backoff bool

	if s.failures > s.spec.FailureThreshold && s.resume == nil {
		backoff = true
		pause := make(chan struct{})
		s.resume = pause
		time.AfterFunc(s.spec.BackoffJitter.Jitter(s.spec.FailureBackoff), func() { s.endPause(pause) })
	}

	failures, again := s.failures, s.resume == nil
	s.mu.Unlock()

	hook := s.hook()
	if backoff {
		hook(EventBackoff{Supervisor: s.standIn, SupervisorName: s.Name})
	}

	hook(event(failures, s.spec.FailureThreshold, again))
}

func (s *Supervisor) endPause(pause chan struct{}) {
	s.mu.Lock()
	current := s.resume == pause
	if current {
		s.resume, s.failures = nil, 0
	}

	live := s.state == serving
	s.mu.Unlock()

	if current && live {
		s.hook()(EventResume{Supervisor: s.standIn, SupervisorName: s.Name})
	}

	close(pause)
}

// Services returns the services, or nil if the supervisor does not run.
func (s *Supervisor) Services() []Service {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.engine == nil {
		return nil
	}

	out := make([]Service, 0, len(s.services))
	for _, e := range s.services {
		out = append(out, e.service)
	}

	return out
}

// UnstoppedServiceReport waits for the end of Serve and returns the services, those of nested
// supervisors included, that did not stop in time. The report is nil if there are none.
func (s *Supervisor) UnstoppedServiceReport() (UnstoppedServiceReport, error) {
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	<-ended
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.report, nil
}

// unstopped returns the report for an engine that has ended.
func (s *Supervisor) unstopped(engine *supervisor.Dynamic[*entry]) (report UnstoppedServiceReport) {
	orphans := map[string]bool{}
	for _, o := range engine.Orphans() {
		orphans[o.Path] = true
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	for _, e := range slices.Concat(s.services, s.removed) {
		if orphans[s.path(e)] {
			report = append(report, UnstoppedService{SupervisorPath: []*Supervisor{s}, Service: e.service, Name: e.name,
				ServiceToken: e.token})
			continue
		}
		if has, ok := e.service.(HasSupervisor); ok && has.GetSupervisor() != nil {
			sub := has.GetSupervisor()
			sub.mu.Lock()
			for _, u := range sub.report {
				u.SupervisorPath = append([]*Supervisor{s}, u.SupervisorPath...)
				report = append(report, u)
			}
			sub.mu.Unlock()
		}
	}

	return report
}
