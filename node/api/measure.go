package api

import (
	"context"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// Request describes a call that has ended, for metrics.
type Request struct {
	Method string // such as "NodeService/Submit"; "other" if it is no method of the API
	Code   string // Connect's code in lower case, or "ok"
	Took   time.Duration
	Stream bool
}

// Meter is called with each call of the API that has ended. It must not wait. A nil Meter is not
// called.
type Meter func(Request)

const servicePrefix = "/coppice.api.v1."

// methodOf returns the metrics label of a procedure. Unknown procedures, which clients can make up,
// share one label.
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

// measured is the interceptor that reports calls to a Meter.
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
	return next // the interceptor is for servers
}

// WithMeter makes a handler report its calls to m.
func WithMeter(m Meter) connect.HandlerOption {
	if m == nil {
		return connect.WithHandlerOptions()
	}
	return connect.WithInterceptors(measured{m})
}
