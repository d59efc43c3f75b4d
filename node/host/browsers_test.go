package host_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/nodetest"
)

// request sends a request to the node's listener, whatever name it gives in Host.
func request(t *testing.T, n *nodetest.Node, method, path, host string, header ...string) (int, string, http.Header) {
	t.Helper()
	body := io.Reader(http.NoBody)
	if method == http.MethodPost {
		body = strings.NewReader("{}")
	}

	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.Address()+path, body)
	require.NoError(t, err)
	r.Host = host
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}

	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()

	if strings.Contains(res.Header.Get("Content-Type"), "event-stream") && res.StatusCode == http.StatusOK {
		return res.StatusCode, "", res.Header // it does not end
	}

	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)

	return res.StatusCode, string(text), res.Header
}

// A page of another site that points its own name to a loopback address (DNS rebinding) is, to its
// browser, of the node's origin. Each route refuses it, with the admin token too.
func TestAnotherNameIsRefusedOnEveryRoute(t *testing.T) {
	n := nodetest.Start(t)
	_, port, err := net.SplitHostPort(n.Address())
	require.NoError(t, err)

	routes := []struct{ method, path string }{
		{http.MethodPost, "/coppice.api.v1.NodeService/Submit"},
		{http.MethodPost, "/coppice.api.v1.NodeService/Status"},
		{http.MethodGet, "/coppice.api.v1.NodeService/Status?connect=v1&encoding=json&message=%7B%7D"},
		{http.MethodPost, "/coppice.api.v1.NodeService/Follow"},
		{http.MethodPost, "/coppice.api.v1.AdminService/Tree"},
		{http.MethodPost, "/coppice.api.v1.AdminService/Kill"},
		{http.MethodPost, "/coppice.api.v1.AdminService/Events"},
		{http.MethodPost, "/coppice.api.v1.SnapshotService/CreateSnapshot"},
		{http.MethodGet, "/events?after=0"},
		{http.MethodGet, "/metrics"},
		{http.MethodGet, "/healthz"},
		{http.MethodGet, "/readyz"},
		{http.MethodPost, "/grpc.health.v1.Health/Check"},
		{http.MethodPost, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"},
		{http.MethodGet, "/"},
		{http.MethodOptions, "/coppice.api.v1.NodeService/Submit"},
	}

	for _, route := range routes {
		for _, host := range []string{"evil.example:" + port, "evil.example", "localhost.evil.example:" + port,
			"127.0.0.1.evil.example", "0.0.0.0:" + port, "192.0.2.1:" + port, "node.localhost", "coppice"} {
			code, text, _ := request(t, n, route.method, route.path, host, "Origin", "http://"+host,
				"Authorization", "Bearer "+n.Token())
			require.Equal(t, http.StatusForbidden, code, "%s %s for %s: %s", route.method, route.path, host, text)
			require.Contains(t, text, "is no name of this node, want localhost")
			require.Contains(t, text, "proxy_set_header Host $http_host;")
		}
	}

	for _, host := range []string{"localhost:" + port, "LOCALHOST.:" + port, "localhost", "127.0.0.1:" + port,
		"127.8.8.8", "[::1]:" + port, "[::1]", "localhost:9999"} { // by a tunnel, the port is another
		code, text, _ := request(t, n, http.MethodPost, "/coppice.api.v1.NodeService/Status", host,
			"Origin", "http://"+host)
		require.Equal(t, http.StatusOK, code, "%s: %s", host, text)
	}
}

func TestConfiguredNamesAreServed(t *testing.T) {
	n := nodetest.Start(t, nodetest.Config(func(c *config.Config) {
		c.AllowedHosts, c.AllowedOrigins = "Node1.example, coppice", "https://app.example,http://localhost:3000"
	}))
	const status = "/coppice.api.v1.NodeService/Status"

	for host, want := range map[string]int{"node1.example": 200, "NODE1.EXAMPLE:443": 200, "coppice": 200,
		"localhost": 200, "node2.example": 403, "node1.example.evil.example": 403} {
		code, text, _ := request(t, n, http.MethodPost, status, host)
		require.Equal(t, want, code, "%s: %s", host, text)
	}

	// nginx passes on the name of its upstream unless it is told otherwise. The browser then names
	// another host as the origin.
	code, text, _ := request(t, n, http.MethodGet, "/events", "coppice", "Origin", "https://node1.example")
	require.Equal(t, 403, code)
	require.Contains(t, text, "proxy_set_header Host $http_host;")
	code, text, _ = request(t, n, http.MethodGet, "/events", "node1.example", "Origin", "https://node1.example")
	require.Equal(t, 200, code, text)

	// The reload of the configuration takes other names.
	c, err := config.Load(n.Home())
	require.NoError(t, err)
	c.AllowedHosts = "node2.example"
	require.NoError(t, n.Node().Reload(c))
	code, _, _ = request(t, n, http.MethodPost, status, "node2.example")
	require.Equal(t, 200, code)
	code, _, _ = request(t, n, http.MethodPost, status, "node1.example")
	require.Equal(t, 403, code)
}

// CORS: the browser first asks whether the page may, and then reads the answer only if it may.
func TestPagesOfAllowedOriginsMayCall(t *testing.T) {
	n := nodetest.Start(t, nodetest.Config(func(c *config.Config) { c.AllowedOrigins = "https://app.example" }))
	const path = "/coppice.api.v1.NodeService/Submit"
	preflight := func(origin string) (int, string, http.Header) {
		return request(t, n, http.MethodOptions, path, "localhost", "Origin", origin,
			"Access-Control-Request-Method", "POST",
			"Access-Control-Request-Headers", "authorization,connect-protocol-version,content-type",
			"Access-Control-Request-Private-Network", "true")
	}

	code, text, h := preflight("https://app.example")
	require.Equal(t, http.StatusNoContent, code, text)
	require.Equal(t, "https://app.example", h.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "POST", h.Get("Access-Control-Allow-Methods"))
	require.Equal(t, "true", h.Get("Access-Control-Allow-Private-Network"))
	require.Contains(t, h.Get("Access-Control-Allow-Headers"), "authorization")

	_, _, h = preflight("https://evil.example")
	require.Empty(t, h.Get("Access-Control-Allow-Origin"))

	// The request has no transaction.
	for origin, want := range map[string]int{"https://app.example": 400, "https://evil.example": 403} {
		code, text, h = request(t, n, http.MethodPost, path, "localhost", "Origin", origin,
			"Sec-Fetch-Site", "cross-site")
		require.Equal(t, want, code, text)
		require.Equal(t, want == 400, h.Get("Access-Control-Allow-Origin") == origin)
	}

	code, _, h = request(t, n, http.MethodGet, "/events", "localhost", "Origin", "https://app.example")
	require.Equal(t, 200, code)
	require.Equal(t, "https://app.example", h.Get("Access-Control-Allow-Origin"))
	code, _, h = request(t, n, http.MethodGet, "/metrics", "localhost", "Origin", "https://app.example")
	require.Equal(t, 200, code)
	require.Equal(t, "https://app.example", h.Get("Access-Control-Allow-Origin"))
}

// Beyond loopback, the node cannot know its names, and every request has a token, which no page of
// another site has.
func TestBeyondLoopbackTheTokenCounts(t *testing.T) {
	beyond := func(c *config.Config) { c.Listen, c.Insecure = "0.0.0.0:0", true }
	n := nodetest.Start(t, nodetest.Config(beyond))
	auth := []string{"Authorization", "Bearer " + n.Token()}
	const status = "/coppice.api.v1.NodeService/Status"

	code, text, _ := request(t, n, http.MethodPost, status, "node1.example", auth...)
	require.Equal(t, 200, code, text)
	code, _, _ = request(t, n, http.MethodPost, status, "node1.example")
	require.Equal(t, 401, code)

	named := nodetest.Start(t, nodetest.Config(beyond), nodetest.Config(func(c *config.Config) {
		c.AllowedHosts = "node1.example"
	}))

	for host, want := range map[string]int{"node1.example": 200, "192.0.2.1": 200, "evil.example": 403} {
		code, text, _ = request(t, named, http.MethodPost, status, host, "Authorization", "Bearer "+named.Token())
		require.Equal(t, want, code, fmt.Sprint(host, text))
	}
}
