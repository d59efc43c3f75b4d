package api_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

type fakeHost struct {
	scripted
	kills []api.Kill
	stops int
	fail  error
	why   string // why the node is not ready
}

func (f *fakeHost) Tree() *apiv1.TreeResponse {
	return &apiv1.TreeResponse{Root: &apiv1.Child{Path: "coppice"}, Pid: 42}
}
func (f *fakeHost) Spec() *apiv1.SpecResponse { return &apiv1.SpecResponse{Text: "coppice"} }
func (f *fakeHost) Health() (c consensus.Condition) {
	if c.State = consensus.Ready; f.why != "" {
		c.Is(consensus.NoQuorum, "%s", f.why)
	}
	return c
}
func (f *fakeHost) Status() api.HostStatus {
	return api.HostStatus{Up: f.why == "", Reason: f.why, PID: 42}
}
func (f *fakeHost) Stop()                 { f.stops++ }
func (f *fakeHost) Inspections() []string { return []string{"heap.pb.gz"} }
func (f *fakeHost) Inspect(_ context.Context, part string) ([]byte, uint64, error) {
	return []byte("part " + part), 3, f.fail
}
func (f *fakeHost) Kill(_ context.Context, k api.Kill) (api.Killed, error) {
	f.kills = append(f.kills, k)
	return api.Killed{Path: k.Path, Incarnation: 9, Type: apiv1.ChildType_CHILD_TYPE_WORKER}, f.fail
}

// admin returns tokens that hold an admin token.
func admin(secret string) api.Tokens {
	return api.Fixed(api.Token{Access: api.AdminAccess, Secret: secret})
}

func serveAdmin(t *testing.T, h api.Host) apiv1connect.AdminServiceClient {
	t.Helper()
	path, handler := api.AdminHandler(h, admin("secret"))
	mux := http.NewServeMux()
	mux.Handle(path, handler)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return apiv1connect.NewAdminServiceClient(srv.Client(), srv.URL)
}

func kill(c apiv1connect.AdminServiceClient, token string, k *apiv1.KillRequest) (*apiv1.KillResponse, error) {
	req := connect.NewRequest(k)
	if token != "" {
		req.Header().Set("Authorization", "Bearer "+token)
	}
	res, err := c.Kill(context.Background(), req)
	if err != nil {
		return nil, err
	}

	return res.Msg, nil
}

func TestKillWantsTheToken(t *testing.T) {
	h := &fakeHost{}
	c := serveAdmin(t, h)
	k := &apiv1.KillRequest{Path: "coppice/node/router", How: apiv1.How_HOW_PANIC}

	_, err := kill(c, "", k)
	require.Equal(t, connect.CodeUnauthenticated, connect.CodeOf(err))
	_, err = kill(c, "wrong", k)
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err))
	require.Empty(t, h.kills)

	res, err := kill(c, "secret", k)
	require.NoError(t, err)
	require.EqualValues(t, 9, res.Incarnation)
	require.Equal(t, apiv1.How_HOW_PANIC, res.How)
	require.Equal(t, []api.Kill{{Path: "coppice/node/router", How: apiv1.How_HOW_PANIC, ReleaseAfter: 2 * time.Second}},
		h.kills)
}

func inspect(c apiv1connect.AdminServiceClient, token, part string) (*apiv1.InspectResponse, error) {
	req := connect.NewRequest(&apiv1.InspectRequest{Part: part})
	if token != "" {
		req.Header().Set("Authorization", "Bearer "+token)
	}
	res, err := c.Inspect(context.Background(), req)
	if err != nil {
		return nil, err
	}

	return res.Msg, nil
}

func TestInspectWantsTheToken(t *testing.T) {
	h := &fakeHost{}
	c := serveAdmin(t, h)

	for token, code := range map[string]connect.Code{
		"": connect.CodeUnauthenticated, "wrong": connect.CodePermissionDenied,
	} {
		for _, part := range []string{"", "heap.pb.gz"} {
			_, err := inspect(c, token, part)
			require.Equal(t, code, connect.CodeOf(err), "%q %q", token, part)
		}
	}

	list, err := inspect(c, "secret", "")
	require.NoError(t, err)
	require.Equal(t, []string{"heap.pb.gz"}, list.Parts)
	require.Empty(t, list.Data)

	one, err := inspect(c, "secret", "heap.pb.gz")
	require.NoError(t, err)
	require.Equal(t, "part heap.pb.gz", string(one.Data))
	require.EqualValues(t, 3, one.LeftOut)

	for err, code := range map[error]connect.Code{
		api.ErrNoPart: connect.CodeInvalidArgument, api.ErrInspecting: connect.CodeResourceExhausted,
		context.DeadlineExceeded: connect.CodeDeadlineExceeded,
	} {
		h.fail = fmt.Errorf("no: %w", err)
		_, got := inspect(c, "secret", "heap.pb.gz")
		require.Equal(t, code, connect.CodeOf(got))
		require.ErrorContains(t, got, err.Error())
	}
}

func TestAHostWithoutATokenKillsNothing(t *testing.T) {
	h := &fakeHost{}
	_, handler := api.AdminHandler(h, admin(""))
	srv := httptest.NewServer(handler)
	defer srv.Close()
	_, err := kill(apiv1connect.NewAdminServiceClient(srv.Client(), srv.URL), "x",
		&apiv1.KillRequest{Path: "coppice", How: apiv1.How_HOW_STOP})
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err))
	require.Empty(t, h.kills)
}

// I10: bad input gets a clear error that names the field and the problem.
func TestBadKillsAreNamed(t *testing.T) {
	h := &fakeHost{}
	c := serveAdmin(t, h)

	for _, tt := range []struct {
		name string
		req  *apiv1.KillRequest
		text string
	}{
		{"no path", &apiv1.KillRequest{How: apiv1.How_HOW_ERROR}, "path: is empty"},
		{"long path", &apiv1.KillRequest{Path: strings.Repeat("x", 5000), How: apiv1.How_HOW_ERROR},
			"path: 5000 bytes"},
		{"hole in the path", &apiv1.KillRequest{Path: "coppice//node", How: apiv1.How_HOW_ERROR}, "empty element"},
		{"no how", &apiv1.KillRequest{Path: "coppice"}, "how: 0 is none of"},
		{"unknown how", &apiv1.KillRequest{Path: "coppice", How: 99}, "how: 99 is none of"},
		{"release of no hang",
			&apiv1.KillRequest{Path: "coppice", How: apiv1.How_HOW_ERROR, ReleaseAfter: durationpb.New(1)},
			"release_after: is for HOW_HANG only"},
		{"release in the past",
			&apiv1.KillRequest{Path: "coppice", How: apiv1.How_HOW_HANG, ReleaseAfter: durationpb.New(-1)},
			"release_after: -1ns"},
		{"release much later",
			&apiv1.KillRequest{Path: "coppice", How: apiv1.How_HOW_HANG, ReleaseAfter: durationpb.New(time.Hour)},
			"release_after: 1h0m0s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := kill(c, "secret", tt.req)
			require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
			require.ErrorContains(t, err, tt.text)
		})
	}

	require.Empty(t, h.kills)
}

func TestKillErrorsKeepTheirMeaning(t *testing.T) {
	h := &fakeHost{}
	c := serveAdmin(t, h)

	for err, code := range map[error]connect.Code{
		api.ErrNoPath:     connect.CodeNotFound,
		api.ErrHow:        connect.CodeInvalidArgument,
		api.ErrNotRunning: connect.CodeFailedPrecondition,
	} {
		h.fail = fmt.Errorf("coppice/x: %w", err)
		_, got := kill(c, "secret", &apiv1.KillRequest{Path: "coppice/x", How: apiv1.How_HOW_ERROR})
		require.Equal(t, code, connect.CodeOf(got))
		require.ErrorContains(t, got, h.fail.Error())
	}
}

// I8: calls that need no token answer without one.
func TestTheTreeIsForEverybody(t *testing.T) {
	h := &fakeHost{why: "transactions is restarting"}
	c := serveAdmin(t, h)
	tree, err := c.Tree(context.Background(), connect.NewRequest(&apiv1.TreeRequest{}))
	require.NoError(t, err)
	require.Equal(t, "coppice", tree.Msg.Root.Path)
	spec, err := c.Spec(context.Background(), connect.NewRequest(&apiv1.SpecRequest{}))
	require.NoError(t, err)
	require.Equal(t, "coppice", spec.Msg.Text)
	health, err := c.Health(context.Background(), connect.NewRequest(&apiv1.HealthRequest{}))
	require.NoError(t, err)
	require.False(t, health.Msg.Ready)
	require.Equal(t, "transactions is restarting", health.Msg.Reason)
	require.Equal(t, "no_quorum", health.Msg.Readiness.State)
	status, err := c.HostStatus(context.Background(), connect.NewRequest(&apiv1.HostStatusRequest{}))
	require.NoError(t, err)
	require.Equal(t, "transactions is restarting", status.Msg.Reason)
	require.EqualValues(t, 42, status.Msg.Pid)
}

// Readiness and liveness are two questions: a node that waits is alive.
func TestHealthSpeaksHTTP(t *testing.T) {
	h := &fakeHost{}
	mux := http.NewServeMux()
	mux.Handle("/readyz", api.ReadyHandler(h))
	mux.Handle("/healthz", api.LiveHandler(h))
	srv := httptest.NewServer(mux)
	defer srv.Close()

	for _, c := range []struct {
		why, path string
		code      int
		body      string
	}{
		{"2 of 4 validators", "/readyz", http.StatusServiceUnavailable, "not ready: no_quorum: 2 of 4 validators\n"},
		{"2 of 4 validators", "/healthz", http.StatusOK, "alive; no_quorum: 2 of 4 validators\n"},
		{"", "/readyz", http.StatusOK, "ready\n"},
		{"", "/healthz", http.StatusOK, "alive; ready\n"},
	} {
		h.why = c.why
		res, err := srv.Client().Get(srv.URL + c.path)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, c.code, res.StatusCode)
		require.Equal(t, c.body, string(body))
	}
}

func TestStopWantsTheToken(t *testing.T) {
	h := &fakeHost{}
	c := serveAdmin(t, h)
	stop := func(token string) (*connect.Response[apiv1.StopResponse], error) {
		req := connect.NewRequest(&apiv1.StopRequest{})
		if token != "" {
			req.Header().Set("Authorization", "Bearer "+token)
		}
		return c.Stop(t.Context(), req)
	}

	_, err := stop("")
	require.Equal(t, connect.CodeUnauthenticated, connect.CodeOf(err))
	_, err = stop("wrong")
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err))
	require.Zero(t, h.stops)

	res, err := stop("secret")
	require.NoError(t, err)
	require.EqualValues(t, 42, res.Msg.Pid)
	require.Equal(t, 1, h.stops)
}
