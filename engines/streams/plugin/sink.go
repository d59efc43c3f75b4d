package plugin

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/plugin/wire"
	pluginv1 "github.com/coppice-go/coppice/proto/coppice/plugin/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// dialOptions let messages through that are longer than gRPC's default.
var dialOptions = []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(wire.MaxMessage),
	grpc.MaxCallSendMsgSize(wire.MaxMessage))}

// sink implements streams.Sink. Its process is started by the first call that needs it.
type sink struct {
	keys       keys
	definition streams.Definition
	settings   []byte
	sum        [32]byte
	ack        streams.AckLevel
	silence    time.Duration // how long the process may show no sign of life

	mu     sync.Mutex // of the start
	run    *running
	closed bool
}

// running is one process with its service.
type running struct {
	client  *plugin.Client
	program *program
	service pluginv1.SinkClient
	about   *pluginv1.DescribeResponse

	cut   context.CancelFunc // of what watches it
	mu    sync.Mutex
	cause error // why it was killed
}

// node is the node's end for go-plugin.
type node struct{ plugin.NetRPCUnsupportedPlugin }

// GRPCServer is not called at this end.
func (node) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return errors.ErrUnsupported }

// GRPCClient returns the client of the service.
func (node) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return pluginv1.NewSinkClient(conn), nil
}

// errClosed means that the sink was used after Close.
var errClosed = errors.New("the sink is closed")

// process returns the process, which it starts if there is none.
func (s *sink) process(ctx context.Context) (*running, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if s.run != nil {
		return s.run, s.run.failure()
	}

	run, err := s.start(ctx)
	if err != nil {
		return nil, err
	}
	s.run = run

	return run, nil
}

func (s *sink) start(ctx context.Context) (*running, error) {
	copied, err := image(s.keys.Path, s.sum)
	if err != nil {
		return nil, err
	}
	defer copied.Close()

	client, p, service, err := launch(s.keys, copied, node{})
	if err != nil {
		return nil, streams.Fail(streams.Misconfigured, fmt.Errorf("plugin %s: %w", s.keys.Path, err))
	}
	life, cut := context.WithCancel(context.Background())
	r := &running{client: client, program: p, service: service.(pluginv1.SinkClient), cut: cut}

	// If the child that the sink serves ends without a Close, the process ends too.
	_ = supervisor.Go(ctx, func(ctx context.Context) error { // outside of a tree, Close must be called
		select {
		case <-ctx.Done():
			r.kill(errors.New("its slot has ended"))
		case <-life.Done():
		}
		return nil
	})
	go r.watch(life, s.silence)

	if err := s.describe(ctx, r); err != nil {
		r.kill(err)
		return nil, err
	}

	return r, nil
}

// describe tells the plugin its definition, and checks what it says it is.
func (s *sink) describe(ctx context.Context, r *running) error {
	about, err := r.service.Describe(ctx, &pluginv1.DescribeRequest{DefinitionFile: s.definition.File,
		Definition: s.settings, Secrets: filepath.Dir(s.definition.File)})
	if err != nil {
		return r.broken(err)
	}
	if err := wire.Err(about.Failure); err != nil {
		return err
	}

	wrong := func(format string, args ...any) error {
		return streams.Fail(streams.Misconfigured, fmt.Errorf("plugin %s %s", s.keys.Path,
			fmt.Sprintf(format, args...)))
	}
	level, _ := streams.ParseAckLevel(about.Ack)
	switch {
	case about.Protocol != wire.Protocol:
		return wrong("speaks protocol %d, want %d", about.Protocol, wire.Protocol)
	case about.Kind != s.keys.Plugin:
		return wrong("is of the kind %q, and the definition says %q", about.Kind, s.keys.Plugin)
	case level < s.ack:
		return wrong("acknowledges what is %s, and the definition wants %s (ack)", about.Ack, s.ack)
	}
	r.about = about

	return nil
}

// defaultSilence is how long a process may show no sign of life. It shows one each second.
const defaultSilence = 10 * time.Second

// watch kills a process that shows no sign of life.
func (r *running) watch(ctx context.Context, silence time.Duration) {
	timer := time.AfterFunc(silence, func() {
		r.kill(fmt.Errorf("it has shown no sign of life for %v", silence))
	})
	defer timer.Stop()

	beats, err := r.service.Beats(ctx, &pluginv1.BeatsRequest{})
	for err == nil {
		if _, err = beats.Recv(); err == nil {
			timer.Reset(silence)
		}
	}
}

// kill ends the process with its group. The first cause counts.
func (r *running) kill(cause error) {
	r.mu.Lock()
	if r.cause == nil {
		r.cause = cause
	}
	r.mu.Unlock()

	r.cut()
	_ = r.program.Kill(context.Background()) // it has no error
	r.client.Kill()                          // closes the connection and removes its socket
}

// failure returns why the process is of no use any more, or nil.
func (r *running) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cause != nil {
		return streams.Fail(streams.Bug, fmt.Errorf("the plugin was killed: %w%s", r.cause, r.program.said()))
	}
	return nil
}

// broken gives an error of gRPC its class, and names the cause: how the process ended.
func (r *running) broken(err error) error {
	if killed := r.failure(); killed != nil {
		return killed
	}

	select { // the connection ends a moment before the process is reaped
	case <-r.program.done:
	case <-time.After(time.Second):
	}
	if ended := r.program.ended(); ended != nil {
		return streams.Fail(streams.Bug, fmt.Errorf("plugin: %w", ended))
	}
	if c := status.Code(err); c == codes.Canceled || c == codes.DeadlineExceeded {
		return streams.Fail(streams.Unreachable, err)
	}

	return streams.Fail(streams.Bug, fmt.Errorf("plugin: %w", err))
}

// answered returns the error of a call: that of gRPC, or the sink's own.
func (r *running) answered(ctx context.Context, err error, failure *pluginv1.Failure) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return r.broken(err)
	}
	return wire.Err(failure)
}

// Open starts the process and claims the plugin's sink.
func (s *sink) Open(ctx context.Context, o streams.Opening) (streams.Cursor, error) {
	r, err := s.process(ctx)
	if err != nil {
		return streams.Cursor{}, err
	}
	answer, err := r.service.Open(ctx, &pluginv1.OpenRequest{Slot: o.Slot, Chain: o.ChainID,
		Definition: o.Definition, Epoch: o.Epoch, Holder: o.Holder, Native: o.Native})
	if err := r.answered(ctx, err, answer.GetFailure()); err != nil {
		return streams.Cursor{}, err
	}

	return wire.Cursor(answer.Cursor), nil
}

// Observe asks the plugin's sink.
func (s *sink) Observe(ctx context.Context) (streams.Cursor, error) {
	r, err := s.process(ctx)
	if err != nil {
		return streams.Cursor{}, err
	}
	answer, err := r.service.Observe(ctx, &pluginv1.ObserveRequest{})
	if err := r.answered(ctx, err, answer.GetFailure()); err != nil {
		return streams.Cursor{}, err
	}

	return wire.Cursor(answer.Cursor), nil
}

// Read asks the plugin's sink.
func (s *sink) Read(ctx context.Context, from, to streams.Position, f func(streams.Event) error) error {
	r, err := s.process(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := r.service.Read(ctx, &pluginv1.ReadRequest{From: wire.FromPosition(&from),
		To: wire.FromPosition(&to)})
	if err != nil {
		return r.answered(ctx, err, nil)
	}

	for {
		m, err := events.Recv()
		switch {
		case isEOF(err):
			return nil
		case err != nil:
			return r.answered(ctx, err, nil)
		case m.Unreadable:
			return streams.ErrNoRead
		case m.Failure != nil:
			return wire.Err(m.Failure)
		}

		e, err := streams.ParseProto(m.Event)
		if err != nil {
			return streams.Fail(streams.Bug, fmt.Errorf("plugin: %w", err))
		}
		if err := f(e); err != nil {
			return err
		}
	}
}

// closeTime bounds the farewell to a process. What is left of it is killed.
const closeTime = 2 * time.Second

// Close closes the plugin's sink and ends the process.
func (s *sink) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.run == nil {
		return nil
	}

	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	_, _ = s.run.service.Close(ctx, &pluginv1.CloseRequest{}) // it ends now in any case
	s.run.kill(errClosed)
	s.run = nil

	return nil
}
