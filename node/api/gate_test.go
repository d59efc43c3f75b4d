package api_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
	"github.com/coppice-go/coppice/supervisor"
)

func body(t *testing.T, srv *httptest.Server) (int, string) {
	t.Helper()
	res, err := srv.Client().Get(srv.URL)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(b)
}

func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })
}

func TestClosedGateAnswersTheReason(t *testing.T) {
	g := api.NewGate(func() string { return "transactions is restarting" })
	srv := httptest.NewServer(g)
	defer srv.Close()

	code, text := body(t, srv)
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, text, "transactions is restarting")

	_, err := apiv1connect.NewNodeServiceClient(srv.Client(), srv.URL).Status(context.Background(),
		connect.NewRequest(&apiv1.StatusRequest{}))
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "a Connect client learns it as a Connect error")
	require.ErrorContains(t, err, "transactions is restarting")
}

// A submission that meets a closed gate goes on as soon as the gate opens. It is told the reason if
// that takes too long, or if the node ends. Everything else is told at once.
func TestASubmissionWaitsForTheGate(t *testing.T) {
	const patience = time.Second
	for name, c := range map[string]struct {
		path string
		then func(*api.Gate) // after half of the patience
		code int
		took time.Duration
	}{
		"it opens": {apiv1connect.NodeServiceSubmitProcedure, func(g *api.Gate) { g.Open(says("taken")) }, 200,
			patience / 2},
		"it stays closed": {apiv1connect.NodeServiceSubmitProcedure, func(*api.Gate) {}, 503, patience},
		"it opens and closes": {apiv1connect.NodeServiceSubmitProcedure,
			func(g *api.Gate) { g.Open(says("taken")).Close("killed") }, 0, 0},
		"the node ends": {apiv1connect.NodeServiceSubmitProcedure, (*api.Gate).End, 503, patience / 2},
		"not a submission": {apiv1connect.NodeServiceStatusProcedure, func(g *api.Gate) { g.Open(says("late")) },
			503, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := api.NewGate(func() string { return "transactions is restarting" })
				g.Patience = patience
				began, done := time.Now(), make(chan time.Duration, 1)
				w := httptest.NewRecorder()

				go func() {
					g.ServeHTTP(w, httptest.NewRequest(http.MethodPost, c.path, http.NoBody))
					done <- time.Since(began)
				}()

				<-time.After(patience / 2)
				synctest.Wait()
				c.then(g)
				took := <-done
				if c.code == 0 { // whether it got in before the gate closed again is a matter of luck
					require.Contains(t, []int{200, 503}, w.Code)
					return
				}

				require.Equal(t, c.code, w.Code, w.Body.String())
				require.Equal(t, c.took, took)
				if c.code != 200 {
					require.Contains(t, w.Body.String(), "transactions is restarting")
				}
			})
		})
	}
}

// A client that gives up frees the place where it waited.
func TestWhoGivesUpWaitsNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := api.NewGate(func() string { return "down" })
		g.Patience = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := httptest.NewRequest(http.MethodPost, apiv1connect.NodeServiceSubmitProcedure, http.NoBody)
		began := time.Now()
		g.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
		require.Equal(t, time.Second, time.Since(began))
	})
}

// I5: no message reaches a replaced incarnation, and a replaced incarnation does not close its
// successor's gate.
func TestAnOlderIncarnationNeitherServesNorCloses(t *testing.T) {
	g := api.NewGate(func() string { return "closed" })
	srv := httptest.NewServer(g)
	defer srv.Close()

	first := g.Open(says("first"))
	_, text := body(t, srv)
	require.Equal(t, "first", text)
	second := g.Open(says("second"))
	<-first.Empty()
	first.Close("late")
	_, text = body(t, srv)
	require.Equal(t, "second", text)
	second.Close("done")
	code, _ := body(t, srv)
	require.Equal(t, http.StatusServiceUnavailable, code)
}

func TestClosingCutsOffThoseInside(t *testing.T) {
	g := api.NewGate(func() string { return "closed" })
	srv := httptest.NewServer(g)
	defer srv.Close()

	inside := make(chan struct{})
	p := g.Open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(inside)
		<-r.Context().Done()
		io.WriteString(w, context.Cause(r.Context()).Error())
	}))
	got := make(chan string)
	go func() {
		_, text := body(t, srv)
		got <- text
	}()

	<-inside
	p.Close("killed")
	require.Contains(t, <-got, "killed")
	<-p.Empty()
}

func TestServiceServesUntilItsContextEnds(t *testing.T) {
	f := newFakeNode()
	g := api.NewGate(func() string { return "no api engine" })
	srv := httptest.NewServer(g)
	defer srv.Close()

	c := apiv1connect.NewNodeServiceClient(srv.Client(), srv.URL)

	ctx, stop := context.WithCancelCause(context.Background())
	ready, ended := make(chan struct{}), make(chan error)
	s := &api.Service{Gate: g, Core: f, Ready: func() { close(ready) }}
	go func() { ended <- s.Serve(ctx) }()
	<-ready
	_, err := submit(c, apiv1.Wait_WAIT_ACCEPTED, 0, "a")
	require.NoError(t, err)

	waited := make(chan error)
	go func() {
		_, err := submit(c, apiv1.Wait_WAIT_RESULT, 0, "a")
		waited <- err
	}()

	<-f.waiting
	stop(errors.New("cut"))
	err = <-waited
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "who waited may try again: %v", err)
	require.ErrorContains(t, err, "cut")
	require.ErrorIs(t, <-ended, context.Canceled)

	_, err = submit(c, apiv1.Wait_WAIT_ACCEPTED, 0, "a")
	require.ErrorContains(t, err, "no api engine")
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err))
}

func TestNodeFile(t *testing.T) {
	home := t.TempDir()
	_, err := api.ReadNodeFile(home)
	require.ErrorIs(t, err, fs.ErrNotExist)
	want := api.NodeFile{PID: 7, Address: "127.0.0.1:7070"}
	require.NoError(t, want.Write(home))
	got, err := api.ReadNodeFile(home)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.NoError(t, os.WriteFile(home+"/"+api.NodeFileName, []byte(`{"pid":1}`), 0o644))
	_, err = api.ReadNodeFile(home)
	require.ErrorContains(t, err, "address is missing")
}

// A hanging engine handles nothing until it is released; then it handles the requests that waited.
func TestServiceHandlesNothingWhileAFaultHasIt(t *testing.T) {
	f := newFakeNode()
	g := api.NewGate(func() string { return "no api engine" })
	entered := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		g.ServeHTTP(w, r)
	}))
	defer srv.Close()

	c := apiv1connect.NewNodeServiceClient(srv.Client(), srv.URL)

	ready := make(chan struct{})
	tree, err := supervisor.New(supervisor.Spec{Name: "test", Build: supervisor.Children(supervisor.Child{
		ID: "api", Start: func(context.Context) (supervisor.Service, error) {
			return &api.Service{Gate: g, Core: f, Ready: func() { close(ready) }}, nil
		},
	})})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- tree.Serve(ctx) }()
	<-ready

	began, release := make(chan struct{}), make(chan struct{})
	handledBefore := make(chan int, 1)
	require.NoError(t, tree.Inject(t.Context(), "api", supervisor.Fault{Name: "hang", Do: func(context.Context) {
		close(began)
		<-release
		f.mu.Lock()
		defer f.mu.Unlock()
		handledBefore <- len(f.calls)
	}}))
	<-began
	answered := make(chan error)
	go func() {
		_, err := submit(c, apiv1.Wait_WAIT_ACCEPTED, 0, "a")
		answered <- err
	}()

	<-entered
	close(release)
	require.Zero(t, <-handledBefore)
	require.NoError(t, <-answered)
	require.Equal(t, []int{1}, f.calls)
	stop()
	require.NoError(t, suppress(<-ended))
}

// suppress ignores the end that the test asked for.
func suppress(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
