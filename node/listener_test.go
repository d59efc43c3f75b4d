package node

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/host"
	"github.com/coppice-go/coppice/node/plan"
)

// listening runs a node whose listener has the given bounds.
func listening(t *testing.T, narrow func(*host.Bounds)) *hand {
	t.Helper()
	dir := t.TempDir()
	_, err := home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Chaos})
	require.NoError(t, err)
	h := driveHome(t, dir, func(n *Node) {
		n.bounds = host.NewBounds(1000)
		narrow(&n.bounds)
	})
	t.Cleanup(h.close)

	return h
}

func (h *hand) dial() net.Conn {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.addr())
	require.NoError(h.t, err)
	h.t.Cleanup(func() { conn.Close() })
	return conn
}

// healthy asks for the node's health as a load balancer does, with a connection of its own.
func (h *hand) healthy() {
	h.t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Get("http://" + h.addr() + "/healthz")
	require.NoError(h.t, err)
	defer res.Body.Close()
	require.Equal(h.t, http.StatusOK, res.StatusCode)
}

// Idle connections never sent a head, stopped in the middle of one, or had an answer and stayed.
// New connections replace them, the oldest first, so that admin always answers (I8).
func TestThousandsOfIdleConnectionsKeepNobodyOut(t *testing.T) {
	const most, flood = 50, 500
	h := listening(t, func(b *host.Bounds) { b.Conns = most })

	conns := make([]net.Conn, flood)
	for i := range conns {
		conns[i] = h.dial()
		switch i % 3 {
		case 1:
			fmt.Fprint(conns[i], "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
		case 2:
			fmt.Fprint(conns[i], "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
			_, err := bufio.NewReader(conns[i]).ReadString('\n')
			require.NoError(t, err)
		}

		if i%100 == 0 {
			h.healthy()
		}
	}

	h.healthy()

	for _, c := range conns[:flood-2*most] { // closed for room, each of them
		_, err := io.Copy(io.Discard, c)
		if err != nil {
			require.ErrorContains(t, err, "reset")
		}
	}

	c := client.New(h.addr())
	defer c.CloseIdle()

	_, err := c.Tree(t.Context())
	require.NoError(t, err)
}

// A connection whose head does not come to its end is cut off in time.
func TestASlowHeadIsCutOff(t *testing.T) {
	h := listening(t, func(b *host.Bounds) { b.Header = 50 * time.Millisecond })
	c := h.dial()
	fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
	_, err := io.Copy(io.Discard, c) // until the node closes it
	require.NoError(t, err)
	h.healthy()
}

func TestAHeadThatIsTooLongIsRefused(t *testing.T) {
	h := listening(t, func(*host.Bounds) {})
	r, err := http.NewRequest(http.MethodGet, "http://"+h.addr()+"/healthz", nil)
	require.NoError(t, err)
	r.Header.Set("X-Long", strings.Repeat("x", 100<<10))
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, res.StatusCode)
}

// Admin has connections of its own. Requests that take all others, and bodies that never come, do
// not keep it from answering (I8).
func TestAdminAnswersWhileRequestsFillTheNode(t *testing.T) {
	h := listening(t, func(b *host.Bounds) { b.Work.MaxRequests = 3 })
	const head = "POST /coppice.api.v1.NodeService/Submit HTTP/1.1\r\nHost: localhost\r\nContent-Type: " +
		"application/json\r\nContent-Length: 100\r\n\r\n{"

	full := ""
	for !strings.Contains(full, "too many requests at once") { // three are inside
		fmt.Fprint(h.dial(), head)
		conn := h.dial()
		fmt.Fprint(conn, strings.Replace(head, "Content-Length: 100\r\n\r\n{", "Content-Length: 2\r\n\r\n{}", 1))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.NoError(t, conn.Close())
		full = string(b)
	}

	h.healthy()
	c := client.New(h.addr(), client.WithToken(h.adminToken()))
	defer c.CloseIdle()

	_, err := c.Tree(t.Context())
	require.NoError(t, err)
}

// A connection does not wait for a body that never comes if its request was refused or needs no
// body. Ten times as many such connections as there may be keep no client out (I8).
func TestBodiesThatNeverComeKeepNobodyOut(t *testing.T) {
	const most = 200
	h := listening(t, func(b *host.Bounds) { *b = host.NewBounds(most) })

	for _, path := range []string{"/coppice.api.v1.NodeService/Submit", "/healthz", "/metrics", "/events"} {
		for range most * 5 / 2 {
			fmt.Fprintf(h.dial(), "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+
				"Content-Length: 100\r\n\r\n{", path)
		}
		h.healthy()
	}

	c := client.New(h.addr(), client.WithToken(h.adminToken()))
	defer c.CloseIdle()

	_, err := c.Tree(t.Context())
	require.NoError(t, err)
}

// A node that would run out of files does not start: it would say that it is ready, and then die.
func TestTooFewFilesAreRefused(t *testing.T) {
	_, err := host.ConnsFor(24)
	require.ErrorIs(t, err, exit.ErrConfig)
	require.ErrorContains(t, err, "this process may open 24 files, want at least 512: raise the limit (ulimit -n, "+
		"LimitNOFILE=)")

	for files, want := range map[uint64]int{512: 320, 1024: 832, 1 << 20: 4096, 1<<64 - 1: 4096} {
		conns, err := host.ConnsFor(files)
		require.NoError(t, err)
		require.Equal(t, want, conns, "of %d files", files)
		b := host.NewBounds(conns)
		require.Positive(t, b.Work.MaxRequests)
		require.LessOrEqual(t, b.Work.MaxRequests+b.Admin.MaxRequests+host.StreamsOf(conns), conns-host.AdminConns,
			"there is always one more")
	}
}

// adminToken returns the token of admin.token.
func (h *hand) adminToken() string {
	h.t.Helper()
	token, err := home.ReadToken(filepath.Join(h.home, api.TokenFileName))
	require.NoError(h.t, err)
	return token
}

// addr waits until the node listens, and returns its address.
func (h *hand) addr() string {
	addr, err := h.Addr(context.Background())
	if err != nil {
		panic(err)
	}
	return addr
}
