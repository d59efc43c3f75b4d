package sdk

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/plugin/wire"
	pluginv1 "github.com/coppice-go/coppice/proto/coppice/plugin/v1"
)

// Serve speaks with the node that started this program, until the node ends it. It returns at once,
// with a message on standard error, if the program was started by something else.
func Serve(f streams.Factory) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: wire.Handshake,
		Plugins:         plugin.PluginSet{wire.Name: &served{factory: f}},
		Logger:          hclog.NewNullLogger(),
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, grpc.MaxRecvMsgSize(wire.MaxMessage),
				grpc.MaxSendMsgSize(wire.MaxMessage))...)
		},
	})
}

// served is the plugin's end for go-plugin.
type served struct {
	plugin.NetRPCUnsupportedPlugin
	factory streams.Factory
}

// GRPCServer registers the service.
func (p *served) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pluginv1.RegisterSinkServer(s, &server{factory: p.factory})
	return nil
}

// GRPCClient is not called at this end.
func (p *served) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.ErrUnsupported
}

// server answers the node's calls by calls of the sink.
type server struct {
	pluginv1.UnimplementedSinkServer
	factory streams.Factory

	mu   sync.Mutex
	sink streams.Sink
}

// errNotDescribed means that the node has broken the protocol.
var errNotDescribed = errors.New("the plugin has no sink yet: Describe comes first")

func (s *server) get() (streams.Sink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sink == nil {
		return nil, errNotDescribed
	}
	return s.sink, nil
}

func (s *server) Describe(_ context.Context, r *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	f := s.factory
	answer := &pluginv1.DescribeResponse{Protocol: wire.Protocol, Kind: f.Kind, Version: f.Version,
		Ack: f.Ack.String(), Limits: wire.FromLimits(f.Limits)}

	text := append([]byte("kind = \""+f.Kind+"\"\n"), r.Definition...)
	d, err := streams.ParseDefinition(r.DefinitionFile, text)
	if err != nil {
		answer.Failure = wire.Failure(streams.Fail(streams.Misconfigured, err))
		return answer, nil
	}
	secrets := r.Secrets
	if secrets == "" {
		secrets = filepath.Dir(r.DefinitionFile)
	}
	sink, err := f.New(d, streams.NewSecrets(secrets))
	if err != nil {
		answer.Failure = wire.Failure(err)
		return answer, nil
	}

	_, answer.CanLimit = sink.(streams.Limiter)
	_, answer.CanCheck = sink.(streams.Checker)
	_, answer.CanRewind = sink.(streams.Rewinder)
	_, answer.CanForget = sink.(streams.Forgetter)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sink = sink

	return answer, nil
}

// beatEvery is how often the process says that it runs.
const beatEvery = time.Second

func (s *server) Beats(_ *pluginv1.BeatsRequest, to grpc.ServerStreamingServer[pluginv1.BeatsResponse]) error {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()

	for {
		if err := to.Send(&pluginv1.BeatsResponse{}); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-to.Context().Done():
			return nil
		}
	}
}

func (s *server) Open(ctx context.Context, r *pluginv1.OpenRequest) (*pluginv1.OpenResponse, error) {
	sink, err := s.get()
	if err != nil {
		return nil, err
	}
	c, err := sink.Open(ctx, streams.Opening{Slot: r.Slot, ChainID: r.Chain, Definition: r.Definition, Epoch: r.Epoch,
		Holder: r.Holder, Native: r.Native})

	return &pluginv1.OpenResponse{Cursor: wire.FromCursor(c), Failure: wire.Failure(err)}, nil
}

func (s *server) Write(calls grpc.BidiStreamingServer[pluginv1.WriteRequest, pluginv1.WriteResponse]) error {
	sink, err := s.get()
	if err != nil {
		return err
	}
	d := &delivery{calls: calls}

	return d.finish(sink.Write(calls.Context(), d))
}

func (s *server) Observe(ctx context.Context, _ *pluginv1.ObserveRequest) (*pluginv1.ObserveResponse, error) {
	sink, err := s.get()
	if err != nil {
		return nil, err
	}
	c, err := sink.Observe(ctx)

	return &pluginv1.ObserveResponse{Cursor: wire.FromCursor(c), Failure: wire.Failure(err)}, nil
}

func (s *server) Read(r *pluginv1.ReadRequest, to grpc.ServerStreamingServer[pluginv1.ReadResponse]) error {
	sink, err := s.get()
	if err != nil {
		return err
	}

	var broken error
	err = sink.Read(to.Context(), *wire.Position(r.From), *wire.Position(r.To), func(e streams.Event) error {
		b, err := streams.AppendProto(nil, e)
		if err != nil {
			return err
		}
		broken = to.Send(&pluginv1.ReadResponse{Event: b})
		return broken
	})
	switch {
	case broken != nil:
		return broken
	case errors.Is(err, streams.ErrNoRead):
		return to.Send(&pluginv1.ReadResponse{Unreadable: true})
	case err != nil:
		return to.Send(&pluginv1.ReadResponse{Failure: wire.Failure(err)})
	}

	return nil
}

func (s *server) Close(ctx context.Context, _ *pluginv1.CloseRequest) (*pluginv1.CloseResponse, error) {
	sink, err := s.get()
	if err != nil {
		return nil, err
	}
	return &pluginv1.CloseResponse{Failure: wire.Failure(sink.Close(ctx))}, nil
}

// delivery is the node's delivery. Events come several at a time, and credit goes back the same
// way.
type delivery struct {
	calls grpc.BidiStreamingServer[pluginv1.WriteRequest, pluginv1.WriteResponse]

	ready     []*pluginv1.Item
	abandoned bool

	mu     sync.Mutex // of Send and of credit
	credit uint64     // not sent yet
}

// errAbandoned means that the node has broken the delivery off. It knows why.
var errAbandoned = errors.New("the delivery was abandoned")

// creditAt is how much credit is sent at once, in bytes. What is less is sent before a wait.
const creditAt = 64 << 10

func (d *delivery) Next(ctx context.Context) (streams.Event, error) {
	for len(d.ready) == 0 {
		if err := context.Cause(ctx); err != nil {
			return streams.Event{}, err
		}
		if d.abandoned {
			return streams.Event{}, streams.Fail(streams.Unreachable, errAbandoned)
		}
		d.flush(1)

		m, err := d.calls.Recv()
		if errors.Is(err, io.EOF) {
			return streams.Event{}, io.EOF
		} else if err != nil {
			return streams.Event{}, streams.Fail(streams.Unreachable, err)
		}
		d.ready, d.abandoned = m.Items, m.Abandoned
	}

	e, err := wire.Event(d.ready[0])
	d.ready = d.ready[1:]

	return e, err
}

func (d *delivery) Credit(bytes int) {
	d.mu.Lock()
	d.credit += uint64(bytes)
	d.mu.Unlock()
	d.flush(creditAt)
}

// flush sends the credit if it is enough.
func (d *delivery) flush(enough uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.credit >= enough {
		_ = d.calls.Send(&pluginv1.WriteResponse{Credit: d.credit}) // the next Recv tells of the end of the call
		d.credit = 0
	}
}

// finish sends the result, with what is left of the credit.
func (d *delivery) finish(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls.Send(&pluginv1.WriteResponse{Credit: d.credit, Done: true, Failure: wire.Failure(err)})
}
