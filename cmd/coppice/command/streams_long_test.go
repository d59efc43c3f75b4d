package command

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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

func (d deadlines) ActOnStream(ctx context.Context, _ *connect.Request[apiv1.ActOnStreamRequest]) (
	*connect.Response[apiv1.ActOnStreamResponse], error) {
	d.note(ctx, "act")
	return connect.NewResponse(&apiv1.ActOnStreamResponse{}), nil
}

func (d deadlines) AddStream(ctx context.Context, _ *connect.Request[apiv1.AddStreamRequest]) (
	*connect.Response[apiv1.AddStreamResponse], error) {
	d.note(ctx, "add")
	return connect.NewResponse(&apiv1.AddStreamResponse{}), nil
}

func (d deadlines) EditStream(ctx context.Context, _ *connect.Request[apiv1.EditStreamRequest]) (
	*connect.Response[apiv1.EditStreamResponse], error) {
	d.note(ctx, "edit")
	return connect.NewResponse(&apiv1.EditStreamResponse{}), nil
}

func (d deadlines) PreviewStream(ctx context.Context, _ *connect.Request[apiv1.PreviewStreamRequest]) (
	*connect.Response[apiv1.PreviewStreamResponse], error) {
	d.note(ctx, "preview")
	return connect.NewResponse(&apiv1.PreviewStreamResponse{}), nil
}

// --timeout says how long a node may be down or busy. It does not cut off the verification of a
// long stream, which took more than the default 15 s for 300,000 transactions, nor a request to a
// sink, whose own deadline is 30 s: the node says then why the sink did not answer.
func TestTheTimeoutDoesNotCutOffWhatASinkDoes(t *testing.T) {
	d := deadlines{of: map[string]bool{}}
	mux := http.NewServeMux()
	mux.Handle(apiv1connect.NewStreamsServiceHandler(d))
	node := httptest.NewServer(mux)
	defer node.Close()

	s := shell{t, t.TempDir()}
	file := filepath.Join(t.TempDir(), "ledger.toml")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	streams := func(args ...string) string {
		return s.run(append(append([]string{"streams"}, args...), "--address", node.URL)...)
	}

	require.Contains(t, streams("verify", "ledger"), "7 blocks")
	streams("rewind", "ledger", "--to", "42")
	streams("add", file)
	streams("edit", "ledger", file)
	streams("preview", "ledger", "42")
	require.Equal(t, map[string]bool{"list": true, "verify": false, "act": false, "add": false, "edit": false,
		"preview": false}, d.of)
}
