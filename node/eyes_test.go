package node_test

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/dashboard"
	"github.com/coppice-go/coppice/node/nodetest"
	"github.com/coppice-go/coppice/node/plan"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// One running node is looked at in every way that the API has, and a child that panics is seen in
// the delta stream, in the history with its stack, and at its place.
func TestANodeCanBeLookedAt(t *testing.T) {
	level := zap.NewAtomicLevelAt(zap.InfoLevel)
	n := nodetest.Start(t, nodetest.Profile(plan.Chaos), nodetest.With(node.WithLevel(level)))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	signed := func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
			r.Header().Set("Authorization", "Bearer "+n.Token())
			return next(ctx, r)
		}
	}
	web := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(web.CloseIdleConnections)
	url := "http://" + n.Address()
	open := apiv1connect.NewAdminServiceClient(web, url)
	admin := apiv1connect.NewAdminServiceClient(web, url, connect.WithInterceptors(
		connect.UnaryInterceptorFunc(signed)))
	blocks := apiv1connect.NewNodeServiceClient(web, url)

	body, err := kv.Encode(kv.Put([]byte("k"), []byte("v")))
	require.NoError(t, err)
	_, err = n.Client().SubmitWait(ctx, chain.NewTx(kv.Name, body, time.Minute))
	require.NoError(t, err)

	t.Run("blocks", func(t *testing.T) {
		list, err := blocks.Blocks(ctx, connect.NewRequest(&apiv1.BlocksRequest{}))
		require.NoError(t, err)
		require.NotEmpty(t, list.Msg.Blocks)
		newest := list.Msg.Blocks[0]
		require.EqualValues(t, 1, newest.Txs)
		require.NotZero(t, newest.Bytes)

		one, err := blocks.Block(ctx, connect.NewRequest(&apiv1.BlockRequest{Height: newest.Height}))
		require.NoError(t, err)
		require.Len(t, one.Msg.Results, 1)
		require.Equal(t, newest.AppHash, one.Msg.Block.AppHash)

		_, err = blocks.Block(ctx, connect.NewRequest(&apiv1.BlockRequest{Height: 1 << 40}))
		require.Equal(t, connect.CodeOutOfRange, connect.CodeOf(err))
		_, err = blocks.Blocks(ctx, connect.NewRequest(&apiv1.BlocksRequest{Count: 101}))
		require.ErrorContains(t, err, "count: 101, want at most 100")

		pool, err := blocks.Pool(ctx, connect.NewRequest(&apiv1.PoolRequest{}))
		require.NoError(t, err)
		require.Empty(t, pool.Msg.Txs)
		_, err = blocks.Peers(ctx, connect.NewRequest(&apiv1.PeersRequest{}))
		require.NoError(t, err)
	})

	deltas, err := open.TreeDelta(ctx, connect.NewRequest(&apiv1.TreeDeltaRequest{}))
	require.NoError(t, err)
	defer deltas.Close()
	require.True(t, deltas.Receive(), deltas.Err())
	require.Equal(t, "host", deltas.Msg().Snapshot.GetPath())
	seq := deltas.Msg().Seq

	const pool = "coppice/node/transactions/mempool/pool"
	before := find(deltas.Msg().Snapshot, pool)
	require.NotNil(t, before)
	_, err = admin.Kill(ctx, connect.NewRequest(&apiv1.KillRequest{Path: pool, How: apiv1.How_HOW_PANIC}))
	require.NoError(t, err)

	var stack string
	var after *apiv1.Child
	for after.GetLive().GetIncarnation() <= before.Live.Incarnation ||
		after.Live.State != apiv1.ChildState_CHILD_STATE_RUNNING {
		require.True(t, deltas.Receive(), deltas.Err())
		d := deltas.Msg()
		require.Equal(t, d.Seq-seq, d.Lost+uint64(len(d.Events)))
		seq = d.Seq
		for _, e := range d.Events {
			if e.Path == pool && e.Kind == "ChildExited" {
				stack = e.Stack
			}
		}
		for _, c := range d.Changes {
			if at := find(c.Child, pool); at != nil {
				after = at
			}
		}
	}
	require.Contains(t, stack, "runtime/panic.go")

	t.Run("history", func(t *testing.T) {
		h, err := open.History(ctx, connect.NewRequest(&apiv1.HistoryRequest{Path: pool, Failures: true}))
		require.NoError(t, err)
		require.Len(t, h.Msg.Events, 1)
		require.Equal(t, stack, h.Msg.Events[0].Stack)
		later := &apiv1.HistoryRequest{AfterSeq: h.Msg.Events[0].Seq, Limit: 1}
		none, err := open.History(ctx, connect.NewRequest(later))
		require.NoError(t, err)
		require.Len(t, none.Msg.Events, 1)
		require.True(t, none.Msg.More)
	})

	t.Run("place", func(t *testing.T) {
		got, err := open.InspectChild(ctx, connect.NewRequest(&apiv1.InspectChildRequest{
			Path: "coppice/node/transactions/storage"}))
		require.NoError(t, err)
		require.Equal(t, []string{"storage", "ordering", "mempool"}, got.Msg.RestartsWith)
		require.Equal(t, "storage", got.Msg.Engine.GetName())
		require.NotZero(t, got.Msg.Engine.Capacity)

		ask := &apiv1.InspectChildRequest{Path: "coppice/node/router", Goroutines: true, State: true}
		_, err = open.InspectChild(ctx, connect.NewRequest(ask))
		require.Equal(t, connect.CodeUnauthenticated, connect.CodeOf(err))
		got, err = admin.InspectChild(ctx, connect.NewRequest(ask))
		require.NoError(t, err)
		require.Contains(t, got.Msg.Stacks, "engines")
		require.Contains(t, got.Msg.StateError, "does not implement")
		require.NotEmpty(t, got.Msg.Child.Spec.Note)

		_, err = open.InspectChild(ctx, connect.NewRequest(&apiv1.InspectChildRequest{Path: "coppice/nobody"}))
		require.Equal(t, connect.CodeNotFound, connect.CodeOf(err))
		_, err = open.InspectChild(ctx, connect.NewRequest(&apiv1.InspectChildRequest{Path: "a//b"}))
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
	})

	t.Run("engines and orphans", func(t *testing.T) {
		list, err := open.Engines(ctx, connect.NewRequest(&apiv1.EnginesRequest{}))
		require.NoError(t, err)
		names := map[string]bool{}
		for _, e := range list.Msg.Engines {
			names[e.Name] = true
		}
		require.Subset(t, names, map[string]bool{"router": true, "logger": true, "storage": true, "ordering": true})

		_, err = admin.Kill(ctx, connect.NewRequest(&apiv1.KillRequest{Path: "coppice/node/engines/consensus",
			How: apiv1.How_HOW_HANG, ReleaseAfter: durationpb.New(4 * time.Second)}))
		require.NoError(t, err)
		n.Await("the child that hangs becomes an orphan", func() bool { return len(n.Supervisor().Orphans()) > 0 })
		orphans, err := open.Orphans(ctx, connect.NewRequest(&apiv1.OrphansRequest{}))
		require.NoError(t, err)
		require.Len(t, orphans.Msg.Orphans, 1)
		require.Contains(t, orphans.Msg.Orphans[0].Stacks, "host.View.strike")
		n.Await("the orphan ends", func() bool { return len(n.Supervisor().Orphans()) == 0 })
	})

	t.Run("level", func(t *testing.T) {
		_, err := open.SetLogLevel(ctx, connect.NewRequest(&apiv1.SetLogLevelRequest{Level: "debug"}))
		require.Equal(t, connect.CodeUnauthenticated, connect.CodeOf(err))
		_, err = admin.SetLogLevel(ctx, connect.NewRequest(&apiv1.SetLogLevelRequest{Level: "loud"}))
		require.ErrorContains(t, err, `"loud", want debug, info, warn or error`)
		res, err := admin.SetLogLevel(ctx, connect.NewRequest(&apiv1.SetLogLevelRequest{Level: "error"}))
		require.NoError(t, err)
		require.Equal(t, "info", res.Msg.Before)
		require.Equal(t, zap.ErrorLevel, level.Level())
	})
}

// find returns the place at a path at or below c.
func find(c *apiv1.Child, path string) *apiv1.Child {
	if c.GetPath() == path {
		return c
	}
	for _, below := range c.GetChildren() {
		if at := find(below, path); at != nil {
			return at
		}
	}
	return nil
}

// The pages of the dashboard show the node; reading changes nothing, a link works once, and only
// its holder may kill.
func TestTheDashboard(t *testing.T) {
	n := nodetest.Start(t, nodetest.Profile(plan.Chaos),
		nodetest.Config(func(c *config.Config) { c.Dashboard = "full" }))
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	web := &http.Client{Transport: &http.Transport{}, Jar: jar}
	t.Cleanup(web.CloseIdleConnections)
	at := "http://" + n.Address()

	do := func(method, path string, form url.Values, header ...string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, at+path, strings.NewReader(form.Encode()))
		require.NoError(t, err)
		if form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := web.Do(req)
		require.NoError(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, string(body)
	}

	for path, want := range map[string]string{
		"/": "ready", "/dashboard/tree/": "mempool", "/dashboard/top": "ordering", "/dashboard/disk": "records",
		"/dashboard/events": "SupervisorStarted", "/dashboard/chain": "Pool: 0 transactions",
		"/dashboard/tree/place?path=coppice/node/router": "and with it: router, logger, transactions, engines"} {
		code, body := do(http.MethodGet, path, nil)
		require.Equal(t, 200, code, path)
		require.Contains(t, body, want, path)
		require.NotContains(t, body, "<form id=\"kill\"", path)
		code, _ = do(http.MethodGet, path, nil, "Sec-Fetch-Dest", "iframe")
		require.Equal(t, 403, code, path)
	}

	const router = "coppice/node/router"
	kill := url.Values{"path": {router}, "name": {"router"}}
	code, _ := do(http.MethodPost, "/dashboard/tree/kill", kill, "X-Coppice", "1")
	require.Equal(t, 403, code, "no session")

	link := dashboard.Code(n.Token(), time.Now())
	for _, wrong := range []string{"", "x", dashboard.Code("other", time.Now()),
		dashboard.Code(n.Token(), time.Now().Add(-6*time.Minute))} {
		code, _ = do(http.MethodPost, "/dashboard/session", url.Values{"code": {wrong}}, "X-Coppice", "1")
		require.Equal(t, 403, code, wrong)
	}
	code, _ = do(http.MethodPost, "/dashboard/session", url.Values{"code": {link}})
	require.Equal(t, 403, code, "not by the script of the page")
	code, body := do(http.MethodPost, "/dashboard/session", url.Values{"code": {link}}, "X-Coppice", "1")
	require.Equal(t, 204, code, body)
	code, _ = do(http.MethodPost, "/dashboard/session", url.Values{"code": {link}}, "X-Coppice", "1")
	require.Equal(t, 403, code, "a link works once")

	before, err := n.Supervisor().Place(router)
	require.NoError(t, err)
	code, _ = do(http.MethodPost, "/dashboard/tree/kill", kill, "X-Coppice", "1", "Origin", "https://evil.example")
	require.Equal(t, 403, code, "a page of another site")
	code, body = do(http.MethodPost, "/dashboard/tree/kill", kill, "X-Coppice", "1")
	require.Equal(t, 204, code, body)
	n.Await("the router is started again", func() bool {
		p, err := n.Supervisor().Place(router)
		return err == nil && p.Incarnation > before.Incarnation
	})
}
