package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/node/trouble"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// Looker is a Host whose tree can be looked at in detail. No method waits, and all are safe for
// concurrent use. A Host that is none answers these calls with unimplemented.
type Looker interface {
	// Supervisor returns the root of the tree.
	Supervisor() *supervisor.Supervisor

	// Note returns what the child at a path is there for; "" if the plan does not name it.
	Note(path string) string

	// Engines returns what the living engines are doing, by name.
	Engines() []EngineStat

	// Troubles returns what is wrong with the node, the gravest first.
	Troubles() []trouble.Trouble

	// SetLogLevel changes the level of the diagnostics. The error is an ErrLogLevel.
	SetLogLevel(level string) (before string, err error)
}

// ErrLogLevel: the level is not one of the diagnostics, or the program does not let it be changed.
var ErrLogLevel = errors.New("log level")

// EngineStat is what an engine is doing, with the figures of the last seconds.
type EngineStat struct {
	engines.Stat
	Rate      float64 // messages a second
	BusyShare float64 // of the time, 0 to 1
}

// Limits of what one process serves to those who look at it.
const (
	maxTreeWatches = 64
	watchPause     = 100 * time.Millisecond
	orphansEvery   = time.Second // the profile of the goroutines is read at most so often
)

func (s *adminService) looker() (Looker, error) {
	l, ok := s.host.(Looker)
	if !ok {
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("this host shows its tree only"))
	}
	return l, nil
}

// below returns the path of a supervisor's method for a path of the API: that of the root is "".
func below(l Looker, p string) (string, error) {
	p = strings.TrimSuffix(p, "/")

	switch {
	case len(p) > maxPath:
		return "", invalid("path", "%d bytes, want at most %d", len(p), maxPath)
	case p == "" || p == l.Supervisor().String():
		return "", nil
	case slices.Contains(strings.Split(p, "/"), ""):
		return "", invalid("path", "%q has an empty element, want ids joined by single slashes", p)
	}

	return p, nil
}

// TreeOf returns a snapshot of a tree, or of a part of it, in its wire form.
func TreeOf(t supervisor.Tree) *apiv1.Child {
	if t.Path != "" {
		return ChildOf(t, t.Path)
	}

	children := t.Children
	t.Children = nil
	root := ChildOf(t, t.ID)
	for _, c := range children {
		root.Children = append(root.Children, ChildOf(c, c.ID))
	}

	return root
}

func (s *adminService) InspectChild(ctx context.Context,
	req *connect.Request[apiv1.InspectChildRequest]) (*connect.Response[apiv1.InspectChildResponse], error) {
	l, err := s.looker()
	if err != nil {
		return nil, err
	}
	at, err := below(l, req.Msg.Path)
	if err != nil {
		return nil, err
	}
	if req.Msg.Goroutines || req.Msg.State {
		if err := s.tokens.authorize(req.Header(), AdminAccess); err != nil {
			return nil, err
		}
	}

	answer, err := InspectChild(ctx, l, at, req.Msg.Goroutines, req.Msg.State)
	if err != nil {
		return nil, wireError(ctx, err)
	}

	return connect.NewResponse(answer), nil
}

// InspectChild returns what is known of the place at a path, "" being the root: see AdminService.
func InspectChild(ctx context.Context, l Looker, at string, goroutines, state bool) (*apiv1.InspectChildResponse,
	error) {
	root := l.Supervisor()
	t, err := root.Place(at)
	if err != nil {
		return nil, err
	}

	answer := &apiv1.InspectChildResponse{Child: TreeOf(t)}
	answer.Child.Spec.Note = l.Note(at)
	if t.LastExit != nil {
		answer.LastStack = t.LastExit.Stack.String()
	}
	if at != "" {
		answer.RestartsWith, _ = root.Group(at) // the child may be gone by now
	}

	for _, e := range l.Engines() {
		if e.Path == at {
			answer.Engine = EngineOf(e)
		}
	}

	if state {
		var why error
		if answer.State, why = root.Inspect(ctx, at); why != nil {
			answer.StateError = why.Error()
		}
	}

	if goroutines {
		n, stacks, err := root.Stacks(at)
		if err != nil {
			return nil, err
		}
		answer.Goroutines, answer.Stacks = uint32(clamp(n)), stacks
	}

	return answer, nil
}

// History returns the remembered events of a place, "" being the root: see AdminService.
func History(root *supervisor.Supervisor, at string, q *apiv1.HistoryRequest) *apiv1.HistoryResponse {
	answer := &apiv1.HistoryResponse{}
	first := uint64(0)

	for _, e := range root.Events() {
		h := e.Head()
		if first == 0 {
			first = h.Seq
		}
		if h.Seq <= q.AfterSeq || !isWithin(h.Path, at) || q.Failures && !IsFailure(e) {
			continue
		}
		answer.Events = append(answer.Events, WithStack(e))
	}

	answer.More = first > q.AfterSeq+1
	if n := len(answer.Events) - int(min(q.Limit, math.MaxInt32)); q.Limit > 0 && n > 0 {
		answer.Events, answer.More = answer.Events[n:], true
	}

	return answer
}

func isWithin(p, at string) bool { return at == "" || p == at || strings.HasPrefix(p, at+"/") }

// IsFailure reports whether an event tells of something that went wrong.
func IsFailure(e supervisor.Event) bool {
	switch e := e.(type) {
	case supervisor.GaveUp, supervisor.ChildOrphaned, supervisor.ChildStartFailed, supervisor.ShutdownError,
		supervisor.ObserverFailed:
		return true
	case supervisor.ChildExited:
		return e.Exit.Class == supervisor.Abnormal
	}
	return false
}

// WithStack returns an event in its wire form, with the stack that it reports.
func WithStack(e supervisor.Event) *apiv1.TreeEvent {
	t := TreeEventOf(e)
	t.Stack = supervisor.StackOf(e)
	return t
}

func (s *adminService) History(_ context.Context,
	req *connect.Request[apiv1.HistoryRequest]) (*connect.Response[apiv1.HistoryResponse], error) {
	l, err := s.looker()
	if err != nil {
		return nil, err
	}
	at, err := below(l, req.Msg.Path)
	if err != nil {
		return nil, err
	}

	return connect.NewResponse(History(l.Supervisor(), at, req.Msg)), nil
}

// orphanLook shares one reading of the goroutine profile, which stops the program for a moment,
// between all who ask within orphansEvery.
type orphanLook struct {
	mu   sync.Mutex
	at   time.Time
	list []supervisor.Orphan
}

func (o *orphanLook) look(root *supervisor.Supervisor) []supervisor.Orphan {
	o.mu.Lock()
	defer o.mu.Unlock()

	if now := time.Now(); now.Sub(o.at) >= orphansEvery {
		o.list = root.Orphans()
		o.at = time.Now()
	}

	return o.list
}

func (s *adminService) Orphans(context.Context,
	*connect.Request[apiv1.OrphansRequest]) (*connect.Response[apiv1.OrphansResponse], error) {
	l, err := s.looker()
	if err != nil {
		return nil, err
	}

	answer := &apiv1.OrphansResponse{}
	for _, o := range s.orphans.look(l.Supervisor()) {
		answer.Orphans = append(answer.Orphans, &apiv1.Orphan{
			Path: o.Path, Incarnation: o.Incarnation, Since: timestamp(o.Since),
			Goroutines: uint32(clamp(o.Goroutines)), Stacks: o.Stack, Brutal: o.Brutal,
		})
	}

	return connect.NewResponse(answer), nil
}

// EngineOf returns what an engine is doing in its wire form.
func EngineOf(e EngineStat) *apiv1.Engine {
	m := &apiv1.Engine{
		Name: e.Name, Path: e.Path, Incarnation: e.Incarnation, Mailbox: uint32(clamp(e.Len)),
		Capacity: uint32(clamp(e.Cap)), Posted: uint32(clamp(e.Posted)), Oldest: durationpb.New(e.Oldest),
		InHand: e.InHand, Handling: durationpb.New(e.Handling), Handled: e.Handled, Busy: durationpb.New(e.Busy),
		Rate: e.Rate, BusyShare: e.BusyShare,
	}
	return m
}

func (s *adminService) Engines(context.Context,
	*connect.Request[apiv1.EnginesRequest]) (*connect.Response[apiv1.EnginesResponse], error) {
	l, err := s.looker()
	if err != nil {
		return nil, err
	}

	answer := &apiv1.EnginesResponse{}
	for _, e := range l.Engines() {
		answer.Engines = append(answer.Engines, EngineOf(e))
	}

	return connect.NewResponse(answer), nil
}

// TroubleOf returns a trouble in its wire form.
func TroubleOf(t trouble.Trouble) *apiv1.Trouble {
	return &apiv1.Trouble{Kind: string(t.Kind), Grave: t.Grave, Text: t.Text, Where: t.Where, Page: string(t.Page),
		Since: timestamp(t.Since), Advice: t.Advice}
}

func (s *adminService) Troubles(context.Context,
	*connect.Request[apiv1.TroublesRequest]) (*connect.Response[apiv1.TroublesResponse], error) {
	l, err := s.looker()
	if err != nil {
		return nil, err
	}

	answer := &apiv1.TroublesResponse{}
	for _, t := range l.Troubles() {
		answer.Troubles = append(answer.Troubles, TroubleOf(t))
	}

	return connect.NewResponse(answer), nil
}

func (s *adminService) TreeDelta(ctx context.Context, req *connect.Request[apiv1.TreeDeltaRequest],
	stream *connect.ServerStream[apiv1.TreeDeltaResponse]) error {
	l, err := s.looker()
	if err != nil {
		return err
	}

	pause := watchPause
	if n := req.Msg.PerSecond; n > 0 {
		pause = max(pause, time.Second/time.Duration(n))
	}

	defer s.watches.Add(-1)
	if s.watches.Add(1) > maxTreeWatches {
		return wireError(ctx, fmt.Errorf("%w: %d of the tree", ErrBusy, maxTreeWatches))
	}

	w, err := l.Supervisor().Watch()
	if err != nil {
		return wireError(ctx, fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
	defer w.Close()

	first := w.Snapshot()
	if err := stream.Send(&apiv1.TreeDeltaResponse{Snapshot: TreeOf(first.Tree), Seq: first.Seq,
		Orphans: uint32(clamp(first.Orphans))}); err != nil {
		return err
	}

	for {
		if err := rest(ctx, pause); err != nil {
			return wireError(ctx, err)
		}

		d, err := w.Next(ctx)
		if errors.Is(err, supervisor.ErrNotRunning) {
			return wireError(ctx, fmt.Errorf("%w: %w", ErrUnavailable, err))
		}
		if err != nil {
			return wireError(ctx, err)
		}

		if err := stream.Send(deltaOf(l, d)); err != nil {
			return err
		}
	}
}

// rest waits for d, or until ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()

	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func deltaOf(l Looker, d supervisor.Delta) *apiv1.TreeDeltaResponse {
	m := &apiv1.TreeDeltaResponse{Seq: d.Seq, Lost: d.Lost, Orphans: uint32(clamp(d.Orphans))}

	for _, c := range d.Changes {
		change := &apiv1.ChildChange{Whole: c.Whole, Gone: c.Gone}
		if c.Gone {
			change.Child = &apiv1.Child{Path: c.Path, Id: path.Base(c.Path)}
		} else {
			change.Child = TreeOf(c.Tree)
		}
		m.Changes = append(m.Changes, change)
	}

	for _, e := range d.Events {
		m.Events = append(m.Events, WithStack(e))
	}

	return m
}

func (s *adminService) SetLogLevel(ctx context.Context,
	req *connect.Request[apiv1.SetLogLevelRequest]) (*connect.Response[apiv1.SetLogLevelResponse], error) {
	if err := s.tokens.authorize(req.Header(), AdminAccess); err != nil {
		return nil, err
	}
	l, err := s.looker()
	if err != nil {
		return nil, err
	}
	before, err := l.SetLogLevel(req.Msg.Level)
	if err != nil {
		return nil, wireError(ctx, err)
	}

	return connect.NewResponse(&apiv1.SetLogLevelResponse{Before: before, Level: req.Msg.Level}), nil
}
