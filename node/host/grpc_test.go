package host_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/nodetest"
	"github.com/coppice-go/coppice/node/plan"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// dial returns a connection of grpc-go, which is gRPC's own implementation, to the node.
func dial(t *testing.T, n *nodetest.Node) *grpc.ClientConn {
	t.Helper()
	_, port, err := net.SplitHostPort(n.Address())
	require.NoError(t, err)
	c, err := grpc.NewClient(net.JoinHostPort("localhost", port),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func put(t *testing.T, key string) []byte {
	t.Helper()
	body, err := kv.Encode(kv.Put([]byte(key), []byte("coppice")))
	require.NoError(t, err)
	tx, err := chain.NewTx(kv.Name, body, time.Minute).Encode()
	require.NoError(t, err)
	return tx
}

// The default listener speaks gRPC, without TLS too: unary calls, streams in which the server
// speaks, and the errors.
func TestGRPCOnTheDefaultListener(t *testing.T) {
	n := nodetest.Start(t)
	c := dial(t, n)

	res := new(apiv1.SubmitResponse)
	require.NoError(t, c.Invoke(t.Context(), apiv1connect.NodeServiceSubmitProcedure,
		&apiv1.SubmitRequest{Txs: [][]byte{put(t, "wood")}, Wait: apiv1.Wait_WAIT_RESULT}, res))
	require.NotNil(t, res.Outcomes[0].GetResult(), "%v", res)

	got := new(apiv1.GetResponse)
	require.NoError(t, c.Invoke(t.Context(), apiv1connect.NodeServiceGetProcedure,
		&apiv1.GetRequest{Keys: [][]byte{[]byte("wood")}, Consistent: true}, got))
	require.Equal(t, "coppice", string(got.Values[0].Value))

	ctx, end := context.WithCancel(t.Context())
	defer end()

	follow, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, apiv1connect.AdminServiceEventsProcedure)
	require.NoError(t, err)
	require.NoError(t, follow.SendMsg(&apiv1.EventsRequest{Kinds: []string{"TxLaunched"}}))
	require.NoError(t, follow.CloseSend())

	event := new(apiv1.EventsResponse)
	for event.GetRecord() == nil {
		require.NoError(t, follow.RecvMsg(event))
	}
	require.Equal(t, "TxLaunched", event.GetRecord().Kind)

	err = c.Invoke(t.Context(), apiv1connect.NodeServiceSubmitProcedure, &apiv1.SubmitRequest{}, res)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.ErrorContains(t, err, "txs: 0 transactions, want 1 to")

	kill := &apiv1.KillRequest{Path: "coppice/node/router", How: apiv1.How_HOW_ERROR}
	err = c.Invoke(t.Context(), apiv1connect.AdminServiceKillProcedure, kill, new(apiv1.KillResponse))
	require.Equal(t, codes.Unauthenticated, status.Code(err))
	require.ErrorContains(t, err, "admin.token")

	evil, err := grpc.NewClient("passthrough:///"+n.Address(), grpc.WithAuthority("evil.example"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer evil.Close()

	err = evil.Invoke(t.Context(), apiv1connect.NodeServiceStatusProcedure, &apiv1.StatusRequest{},
		new(apiv1.StatusResponse))
	require.Equal(t, codes.PermissionDenied, status.Code(err))
	require.ErrorContains(t, err, `host: "evil.example" is no name of this node`)
}

// The health follows the node's readiness. AdminService answers in every state.
func TestGRPCHealthFollowsReadiness(t *testing.T) {
	const serving, not = grpc_health_v1.HealthCheckResponse_SERVING, grpc_health_v1.HealthCheckResponse_NOT_SERVING

	n := nodetest.Start(t, nodetest.Profile(plan.Chaos))
	health := grpc_health_v1.NewHealthClient(dial(t, n))
	check := func(service string) grpc_health_v1.HealthCheckResponse_ServingStatus {
		res, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
		require.NoError(t, err)
		return res.Status
	}
	require.Equal(t, serving, check(""))
	require.Equal(t, serving, check(apiv1connect.NodeServiceName))

	watch, err := health.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: apiv1connect.NodeServiceName})
	require.NoError(t, err)
	next := func() grpc_health_v1.HealthCheckResponse_ServingStatus {
		res, err := watch.Recv()
		require.NoError(t, err)
		return res.Status
	}
	require.Equal(t, serving, next())

	// While the pool hangs, it cannot be stopped, and so the node is not ready.
	admin := n.Client()
	_, err = admin.Kill(t.Context(), "coppice/node/transactions/mempool/pool", apiv1.How_HOW_HANG, 3*time.Second)
	require.NoError(t, err)
	require.Equal(t, not, next())
	require.Equal(t, serving, check(apiv1connect.AdminServiceName))
	require.Equal(t, serving, next())
	n.Await("the end of the orphan", func() bool { return len(n.Supervisor().Orphans()) == 0 })

	_, err = health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "coppice.Nonsense"})
	require.Equal(t, codes.NotFound, status.Code(err))
	require.ErrorContains(t, err, apiv1connect.NodeServiceName)
}

// Tools such as grpcurl learn the contract from the node.
func TestGRPCReflection(t *testing.T) {
	n := nodetest.Start(t)
	stream, err := reflection.NewServerReflectionClient(dial(t, n)).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&reflection.ServerReflectionRequest{
		MessageRequest: &reflection.ServerReflectionRequest_ListServices{}}))
	res, err := stream.Recv()
	require.NoError(t, err)

	var names []string
	for _, s := range res.GetListServicesResponse().GetService() {
		names = append(names, s.Name)
	}

	for _, want := range append(api.Services(), "grpc.health.v1.Health") {
		require.Contains(t, names, want)
	}
	require.True(t, slices.Contains(names, apiv1connect.NodeServiceName))

	require.NoError(t, stream.Send(&reflection.ServerReflectionRequest{
		MessageRequest: &reflection.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: names[0]}}))
	res, err = stream.Recv()
	require.NoError(t, err)
	require.NotEmpty(t, res.GetFileDescriptorResponse().GetFileDescriptorProto(), "%v", res)
	require.NoError(t, stream.CloseSend())
}

// Beyond loopback, the health needs no token, as /healthz does not, and the rest of gRPC does.
func TestGRPCBeyondLoopback(t *testing.T) {
	n := nodetest.Start(t, nodetest.Config(func(c *config.Config) { c.Listen, c.Insecure = "0.0.0.0:0", true }))
	c := dial(t, n)
	_, err := grpc_health_v1.NewHealthClient(c).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	require.NoError(t, err)

	call := func(token, procedure string) error {
		ctx := t.Context()
		if token != "" {
			secret, err := os.ReadFile(filepath.Join(n.Home(), token))
			require.NoError(t, err)
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+strings.TrimSpace(string(secret)))
		}

		if procedure == apiv1connect.NodeServiceSubmitProcedure {
			return c.Invoke(ctx, procedure, &apiv1.SubmitRequest{Txs: [][]byte{put(t, token)}},
				new(apiv1.SubmitResponse))
		}
		return c.Invoke(ctx, procedure, &apiv1.StatusRequest{}, new(apiv1.StatusResponse))
	}

	for _, tt := range []struct {
		token, procedure string
		code             codes.Code
		text             string
	}{
		{"", apiv1connect.NodeServiceStatusProcedure, codes.Unauthenticated, "read.token"},
		{"read.token", apiv1connect.NodeServiceStatusProcedure, codes.OK, ""},
		{"read.token", apiv1connect.NodeServiceSubmitProcedure, codes.PermissionDenied, "submit.token"},
		{"submit.token", apiv1connect.NodeServiceSubmitProcedure, codes.OK, ""},
		{"admin.token", apiv1connect.NodeServiceSubmitProcedure, codes.OK, ""},
	} {
		err := call(tt.token, tt.procedure)
		require.Equal(t, tt.code, status.Code(err), fmt.Sprint(tt, err))
		if tt.text != "" {
			require.ErrorContains(t, err, tt.text)
		}
	}
}
