package api

import (
	"context"
	"errors"
	"math"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/streams"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// Streams is the part of a node that StreamsService needs. All methods are safe for concurrent use.
type Streams interface {
	// Streams returns the slots of the node.
	Streams() *streams.Streams

	// StreamStatus returns the status of a slot, with the figures of the chain and the log if they
	// can be had.
	StreamStatus(ctx context.Context, name string) (streams.Status, error)
}

// StreamsRoutes returns the routes of StreamsService over s. They are not behind the gate: the
// service answers while the node is down.
func StreamsRoutes(s Streams, tokens Tokens) []Route {
	access := connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			if err := tokens.authorize(req.Header(), procedures[req.Spec().Procedure]); err != nil {
				return nil, err
			}
			return next(ctx, req)
		}
	})

	path, handler := apiv1connect.NewStreamsServiceHandler(&streamsService{s}, knownEnums(),
		connect.WithReadMaxBytes(maxAdminBody), connect.WithInterceptors(access))
	return []Route{{path, unhurried(handler), Work}}
}

type streamsService struct{ s Streams }

func (s *streamsService) ListStreams(ctx context.Context, req *connect.Request[apiv1.ListStreamsRequest]) (
	*connect.Response[apiv1.ListStreamsResponse], error) {
	names := s.s.Streams().Names()
	if req.Msg.Name != "" {
		names = []string{req.Msg.Name}
	}

	res := &apiv1.ListStreamsResponse{}
	for _, name := range names {
		st, err := s.s.StreamStatus(ctx, name)
		if err != nil {
			return nil, wireError(ctx, err)
		}
		res.Streams = append(res.Streams, streamProto(st))
	}

	return connect.NewResponse(res), nil
}

func streamProto(st streams.Status) *apiv1.Stream {
	m := &apiv1.Stream{
		Name: st.Name, Kind: st.Kind, State: string(st.State), At: placeProto(st.Cursor), Stands: placeProto(st.Stands),
		Epoch: st.Cursor.Epoch, Floor: st.Floor, HeldBytes: st.HeldBytes, FreeBytes: st.FreeBytes,
		LagBytes: st.LagBytes, LagHeights: st.LagHeights, FirstCause: causeProto(st.First),
		LastCause: causeProto(st.Last), Parked: uint32(st.Parked), DeliveredEvents: st.Counts.Events,
		DeliveredBytes: st.Counts.Bytes, Rewinds: st.Counts.Rewinds, Takeovers: st.Counts.Takeovers,
		Restarts: st.Counts.Restarts, Ack: st.Ack, Standby: st.Standby, Definition: st.Definition,
		BootstrapRatio: st.Bootstrapped, LagEvents: st.LagEvents, LagSeconds: st.LagSeconds,
	}
	if st.Exempt != nil {
		m.ExemptUntil = timestamppb.New(*st.Exempt)
	}
	for _, a := range st.History {
		m.History = append(m.History, &apiv1.StreamAct{Time: timestamppb.New(a.Time), What: a.What, By: a.By,
			From: a.From})
	}
	return m
}

func placeProto(c streams.Cursor) *apiv1.StreamPosition {
	if c.Empty() {
		return nil
	}
	return &apiv1.StreamPosition{Period: c.Period, Height: c.Height}
}

func causeProto(c *streams.Cause) *apiv1.StreamCause {
	if c == nil {
		return nil
	}
	return &apiv1.StreamCause{Class: string(c.Class), Text: c.Text, Time: timestamppb.New(c.Time)}
}

func positionOf(p *apiv1.StreamPosition, unset streams.Position) streams.Position {
	if p == nil {
		return unset
	}
	return streams.Position{Period: p.Period, Height: p.Height}
}

func (s *streamsService) WaitStream(ctx context.Context, req *connect.Request[apiv1.WaitStreamRequest]) (
	*connect.Response[apiv1.WaitStreamResponse], error) {
	if t := req.Msg.Timeout; t != nil {
		if d := t.AsDuration(); d <= 0 {
			return nil, invalid("timeout", "%v, want more than 0", d)
		}
		bound, cancel := context.WithTimeout(ctx, t.AsDuration())
		defer cancel()
		ctx = bound
	}

	if err := s.s.Streams().Wait(ctx, req.Msg.Name, positionOf(req.Msg.At, streams.Position{})); err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(&apiv1.WaitStreamResponse{}), nil
}

// maxPreview bounds the bytes of a preview.
const maxPreview = 8 << 20

func (s *streamsService) PreviewStream(ctx context.Context, req *connect.Request[apiv1.PreviewStreamRequest]) (
	*connect.Response[apiv1.PreviewStreamResponse], error) {
	res, size := &apiv1.PreviewStreamResponse{}, 0
	err := s.s.Streams().Preview(ctx, req.Msg.Name, positionOf(req.Msg.At, streams.Position{}),
		func(e streams.Event) error {
			line := streams.AppendJSON(nil, e)
			if size += len(line); size > maxPreview {
				return connect.NewError(connect.CodeResourceExhausted, ErrTooMuch)
			}
			res.Events = append(res.Events, line)
			return nil
		})
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(res), nil
}

func (s *streamsService) VerifyStream(ctx context.Context, req *connect.Request[apiv1.VerifyStreamRequest]) (
	*connect.Response[apiv1.VerifyStreamResponse], error) {
	r, err := s.s.Streams().Verify(ctx, req.Msg.Name, positionOf(req.Msg.From, streams.Position{}),
		positionOf(req.Msg.To, streams.Position{Period: math.MaxUint64}))
	if err != nil {
		return nil, wireError(ctx, err)
	}

	res := &apiv1.VerifyStreamResponse{Units: r.Units, Events: r.Events, Faults: r.Faults}
	for _, f := range r.Findings {
		res.Findings = append(res.Findings, &apiv1.StreamFinding{Fault: string(f.Fault), Period: f.Place.Period,
			Height: f.Place.Height, Index: f.Place.Index, Part: f.Part, Text: f.Text})
	}
	if r.Older != nil {
		res.Older = &apiv1.StreamPosition{Period: r.Older.Period, Height: r.Older.Height}
	}

	return connect.NewResponse(res), nil
}

func (s *streamsService) AddStream(ctx context.Context, req *connect.Request[apiv1.AddStreamRequest]) (
	*connect.Response[apiv1.AddStreamResponse], error) {
	notes, err := s.s.Streams().Add(ctx, req.Msg.Name, req.Msg.Definition, req.Msg.DryRun)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(&apiv1.AddStreamResponse{Notes: notes}), nil
}

func (s *streamsService) EditStream(ctx context.Context, req *connect.Request[apiv1.EditStreamRequest]) (
	*connect.Response[apiv1.EditStreamResponse], error) {
	m := req.Msg
	notes, err := s.s.Streams().Edit(ctx, m.Name, m.Definition,
		streams.EditOptions{DryRun: m.DryRun, FromHere: m.FromHere, Rebuild: m.Rebuild, By: m.By})
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(&apiv1.EditStreamResponse{Notes: notes}), nil
}

func (s *streamsService) ExportStream(ctx context.Context, req *connect.Request[apiv1.ExportStreamRequest]) (
	*connect.Response[apiv1.ExportStreamResponse], error) {
	text, err := s.s.Streams().Export(req.Msg.Name)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(&apiv1.ExportStreamResponse{Definition: text}), nil
}

func (s *streamsService) ReplayStream(ctx context.Context, req *connect.Request[apiv1.ReplayStreamRequest]) (
	*connect.Response[apiv1.ReplayStreamResponse], error) {
	m := req.Msg
	from, to := positionOf(m.From, streams.Position{}), positionOf(m.To, streams.Position{Period: math.MaxUint64})
	if from.Compare(to) > 0 {
		return nil, invalid("to", "%s, want at least from, %s", to, from)
	}
	at, events, err := s.s.Streams().Replay(ctx, m.Name, from, to, m.Into, m.Definition)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(&apiv1.ReplayStreamResponse{Events: events, At: placeProto(at)}), nil
}

func (s *streamsService) ListParked(ctx context.Context, req *connect.Request[apiv1.ListParkedRequest]) (
	*connect.Response[apiv1.ListParkedResponse], error) {
	list, err := s.s.Streams().Parked(req.Msg.Name)
	if err != nil {
		return nil, wireError(ctx, err)
	}

	res, size := &apiv1.ListParkedResponse{}, 0
	for i, p := range list {
		if size += len(p.Event); size > maxPreview {
			break // the next ones come once these are dropped or retried
		}
		res.Events = append(res.Events, &apiv1.ParkedEvent{Number: uint32(i + 1), Time: timestamppb.New(p.Time),
			Error: p.Error, Event: p.Event, Dropped: p.Dropped})
	}
	return connect.NewResponse(res), nil
}

func (s *streamsService) ActOnStream(ctx context.Context, req *connect.Request[apiv1.ActOnStreamRequest]) (
	*connect.Response[apiv1.ActOnStreamResponse], error) {
	m, all := req.Msg, s.s.Streams()

	var err error
	switch act := m.Act.(type) {
	case *apiv1.ActOnStreamRequest_Pause:
		err = all.Pause(m.Name, m.By)
	case *apiv1.ActOnStreamRequest_Resume:
		err = all.Resume(m.Name, act.Resume.TakeOver, m.By)
	case *apiv1.ActOnStreamRequest_Retry:
		err = all.Retry(m.Name, m.By)
	case *apiv1.ActOnStreamRequest_Exempt:
		var until time.Time
		if d := act.Exempt.AsDuration(); d > 0 {
			until = time.Now().Add(d)
		}
		err = all.Exempt(m.Name, until, m.By)
	case *apiv1.ActOnStreamRequest_Rewind:
		err = all.Rewind(ctx, m.Name, positionOf(act.Rewind, streams.Position{}), m.By)
	case *apiv1.ActOnStreamRequest_DropParked:
		var numbers []int
		for _, n := range act.DropParked.Numbers {
			numbers = append(numbers, int(n))
		}
		err = all.DropParked(m.Name, numbers, m.By)
	case *apiv1.ActOnStreamRequest_RetryParked:
		err = all.RetryParked(ctx, m.Name, m.By)
	case *apiv1.ActOnStreamRequest_RewindCommon:
		_, err = all.RewindCommon(ctx, m.Name, m.By)
	case *apiv1.ActOnStreamRequest_Rebuild:
		err = all.Rebuild(ctx, m.Name, m.By)
	case *apiv1.ActOnStreamRequest_Drop:
		err = all.Drop(ctx, m.Name, act.Drop.ForgetSink)
	default:
		err = invalid("act", "unset, want pause, resume, retry, exempt, rewind, rewind_common, "+
			"rebuild, drop, drop_parked or retry_parked")
	}
	if err != nil {
		return nil, wireError(ctx, err)
	}

	return connect.NewResponse(&apiv1.ActOnStreamResponse{}), nil
}

// maxSinks is the most sinks that one Submit may wait for.
const maxSinks = 100

// checkSinks refuses sinks that there are not, before anything is submitted.
func (s *nodeService) checkSinks(wait apiv1.Wait, names []string) error {
	switch {
	case wait != apiv1.Wait_WAIT_SINK && len(names) > 0:
		return invalid("sinks", "%d names, want none without WAIT_SINK", len(names))
	case wait == apiv1.Wait_WAIT_SINK && (len(names) == 0 || len(names) > maxSinks):
		return invalid("sinks", "%d names, want 1 to %d with WAIT_SINK", len(names), maxSinks)
	}

	for _, name := range names {
		if s.limits.Sinks == nil {
			return invalid("sinks", "there is no stream %.80q: the node has no streams", name)
		}
		if _, err := s.limits.Sinks.Standing(name); err != nil {
			return invalid("sinks", "%w", err)
		}
	}

	return nil
}

// waitSinks waits for at most timeout until each sink has the blocks of the results, and returns
// the sinks that lack one then. A sink counts as lacking if a transaction has no result yet.
func (s *nodeService) waitSinks(ctx context.Context, names []string, outcomes []*apiv1.TxOutcome,
	timeout time.Duration) (lacking []*apiv1.LackingSink, err error) {
	var last streams.Position
	open := false
	for _, o := range outcomes {
		v := chain.VersionFromProto(o.GetResult().GetVersion())
		if at := (streams.Position{Period: v.Period, Height: v.Height}); o.GetResult() != nil && at.Compare(last) > 0 {
			last = at
		}
		open = open || o.GetAccepted() != nil
	}

	waiting, cancel := context.WithTimeout(ctx, max(timeout, 0))
	defer cancel()
	for _, name := range names {
		err := s.limits.Sinks.Wait(waiting, name, last)
		if err == nil && !open {
			continue
		}
		if ctx.Err() != nil || err != nil && !errors.Is(err, streams.ErrBehind) {
			return nil, wireError(ctx, err)
		}

		st, err := s.limits.Sinks.Standing(name)
		if err != nil {
			return nil, wireError(ctx, err)
		}
		lacking = append(lacking, &apiv1.LackingSink{Name: name, State: string(st.State), Period: st.At.Period,
			Height: st.At.Height})
	}

	return lacking, nil
}
