package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/supervisor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs the tree, and returns the addresses of the server's incarnations.
func start(t *testing.T) (*supervisor.Run, <-chan net.Addr) {
	addrs := make(chan net.Addr, 10)
	tree, err := newTree("127.0.0.1:0", func(a net.Addr) { addrs <- a })
	require.NoError(t, err)
	run, err := tree.Start(t.Context())
	require.NoError(t, err)
	return run, addrs
}

func get(t *testing.T, url string) string {
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(url)
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(text)
}

func TestItServesAndStopsInOrder(t *testing.T) {
	run, addrs := start(t)
	base := "http://" + (<-addrs).String()
	require.Equal(t, "hello\n", get(t, base+"/hello"))
	require.NoError(t, run.Flush(t.Context()))
	require.Contains(t, get(t, base+"/metrics"), `coppice_tree_running{path="http"} 1`)
	require.NoError(t, run.Stop(context.Background()))

	_, err := http.Get(base + "/hello") //nolint:bodyclose // there is none
	require.Error(t, err, "nobody listens")
}

func TestAFailureStartsAnotherServer(t *testing.T) {
	run, addrs := start(t)
	<-addrs
	require.NoError(t, run.Kill("http", errors.New("a test")))
	require.Equal(t, "hello\n", get(t, "http://"+(<-addrs).String()+"/hello"))
	require.NoError(t, run.Stop(context.Background()))
}

func TestAServerThatSomebodyClosedIsAFailure(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{}
	require.NoError(t, server.Close())
	require.ErrorIs(t, serve(t.Context(), server, l), http.ErrServerClosed)
}

func TestAnAddressInUseFailsTheStart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	tree, err := newTree(l.Addr().String(), func(net.Addr) { t.Error("listens") })
	require.NoError(t, err)
	_, err = tree.Start(t.Context())
	require.ErrorContains(t, err, "address already in use")
}
