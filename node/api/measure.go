package api

import (
	"context"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// Request is a call that ended, for whoever counts.
type Request struct {
	Method string // "NodeService/Submit"; what is no method of the API is "other"
	Code   string // Connect's, in lower case; "ok"
	Took   time.Duration
	Stream bool
}

// Meter takes calls that ended. It must not wait. Nil is nobody.
type Meter func(Request)

const servicePrefix = "/coppice.api.v1."

// methodOf is the label of a procedure. What clients make up is one label.
func methodOf(procedure string) string {
	name, ours := strings.CutPrefix(procedure, servicePrefix)
	if !ours {
		return "other"
	}

	service, method, _ := strings.Cut(name, "/")

	for _, services := range []protoreflect.ServiceDescriptors{
		apiv1.File_coppice_api_v1_node_proto.Services(), apiv1.File_coppice_api_v1_admin_proto.Services(),
	} {
		if s := services.ByName(protoreflect.Name(service)); s != nil &&
			s.Methods().ByName(protoreflect.Name(method)) != nil {
			return name
		}
	}

	return "other"
}

func codeLabel(err error) string {
	if err == nil {
		return "ok"
	}
	return connect.CodeOf(err).String()
}

// measured is the interceptor that tells a Meter.
type measured struct{ meter Meter }

func (m measured) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		began := time.Now()
		res, err := next(ctx, req)
		m.meter(Request{Method: methodOf(req.Spec().Procedure), Code: codeLabel(err), Took: time.Since(began)})
		return res, err
	}
}

func (m measured) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		began := time.Now()
		err := next(ctx, conn)
		m.meter(Request{Method: methodOf(conn.Spec().Procedure), Code: codeLabel(err), Took: time.Since(began),
			Stream: true})
		return err
	}
}

func (m measured) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next // it is for servers
}

// WithMeter has a handler tell its calls to m.
func WithMeter(m Meter) connect.HandlerOption {
	if m == nil {
		return connect.WithHandlerOptions()
	}
	return connect.WithInterceptors(measured{m})
}
