package command

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// deadlines tells which calls of a node's streams come with a deadline.
type deadlines struct {
	apiv1connect.UnimplementedStreamsServiceHandler
	of map[string]bool
}

func (d deadlines) note(ctx context.Context, call string) { _, d.of[call] = ctx.Deadline() }

func (d deadlines) ListStreams(ctx context.Context, req *connect.Request[apiv1.ListStreamsRequest]) (
	*connect.Response[apiv1.ListStreamsResponse], error) {
	d.note(ctx, "list")
	s := &apiv1.Stream{Name: req.Msg.Name}
	return connect.NewResponse(&apiv1.ListStreamsResponse{Streams: []*apiv1.Stream{s}}), nil
}

func (d deadlines) VerifyStream(ctx context.Context, _ *connect.Request[apiv1.VerifyStreamRequest]) (
	*connect.Response[apiv1.VerifyStreamResponse], error) {
	d.note(ctx, "verify")
	return connect.NewResponse(&apiv1.VerifyStreamResponse{Units: 7}), nil
}

// --timeout says how long a node may be down or busy. It does not cut off the verification of a
// long stream, which took more than the default 15 s for 300,000 transactions.
func TestTheTimeoutDoesNotCutOffAVerification(t *testing.T) {
	d := deadlines{of: map[string]bool{}}
	mux := http.NewServeMux()
	mux.Handle(apiv1connect.NewStreamsServiceHandler(d))
	node := httptest.NewServer(mux)
	defer node.Close()

	s := shell{t, t.TempDir()}
	require.Contains(t, s.run("streams", "verify", "ledger", "--address", node.URL), "7 blocks")
	require.Equal(t, map[string]bool{"list": true, "verify": false}, d.of)
}
