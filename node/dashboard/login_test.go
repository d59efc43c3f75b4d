package dashboard_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/dashboard"
	"github.com/coppice-go/coppice/node/nodetest"
	"github.com/coppice-go/coppice/node/plan"
)

// visitor is a client with cookies that follows no redirect.
type visitor struct {
	t   *testing.T
	at  string
	web *http.Client
}

func visit(t *testing.T, n *nodetest.Node) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	_, port, _ := strings.Cut(strings.TrimPrefix(n.Address(), "[::]"), ":")
	return &visitor{t, "http://127.0.0.1:" + port, &http.Client{Transport: &http.Transport{DisableKeepAlives: true},
		Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (v *visitor) do(method, path string, form url.Values, header ...string) *http.Response {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), method, v.at+path, strings.NewReader(form.Encode()))
	require.NoError(v.t, err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := v.web.Do(req)
	require.NoError(v.t, err)
	v.t.Cleanup(func() { res.Body.Close() })
	return res
}

func (v *visitor) get(path string) (int, string) {
	v.t.Helper()
	res := v.do(http.MethodGet, path, nil, "Accept", "text/html")
	data, err := io.ReadAll(res.Body)
	require.NoError(v.t, err)
	return res.StatusCode, string(data)
}

// login gives a token to the page.
func (v *visitor) login(token string) (goesTo string) {
	v.t.Helper()
	res := v.do(http.MethodPost, dashboard.Path+"session", url.Values{"token": {token}})
	require.Equal(v.t, http.StatusSeeOther, res.StatusCode)
	return res.Header.Get("Location")
}

// Where other machines reach the listener, a browser logs in with a token. Its cookie opens the
// dashboard alone. A read-only token shows no action, and its requests for one are refused.
func TestBehindTheGuard(t *testing.T) {
	n := nodetest.Start(t, nodetest.Profile(plan.Chaos), nodetest.Config(func(c *config.Config) {
		c.Listen, c.Insecure, c.Dashboard = "0.0.0.0:0", true, "full"
	}))
	read, err := os.ReadFile(filepath.Join(n.Home(), "read.token"))
	require.NoError(t, err)
	v := visit(t, n)

	for _, page := range []string{"/", dashboard.Path, dashboard.Path + "tree/", dashboard.Path + "top"} {
		res := v.do(http.MethodGet, page, nil, "Accept", "text/html")
		require.Equal(t, http.StatusSeeOther, res.StatusCode, page)
		require.Equal(t, dashboard.Path+"login", res.Header.Get("Location"))
	}
	for _, page := range []string{dashboard.Path + "tree/deltas", dashboard.Path + "events/stream", "/metrics",
		"/events"} {
		require.Equal(t, http.StatusUnauthorized, v.do(http.MethodGet, page, nil).StatusCode, page)
	}
	code, body := v.get(dashboard.Path + "login")
	require.Equal(t, http.StatusOK, code)
	require.NotContains(t, body, "height", "the page tells nothing of the node")

	require.Equal(t, dashboard.Path+"login?refused", v.login("wrong"))
	code, _ = v.get(dashboard.Path)
	require.Equal(t, http.StatusSeeOther, code)

	require.Equal(t, dashboard.Path, v.login(strings.TrimSpace(string(read))))
	for _, page := range allPages {
		code, body := v.get(dashboard.Path + page)
		require.Equal(t, http.StatusOK, code, page)
		require.NotContains(t, body, "data-post", page)
		require.NotContains(t, body, "id=\"kill\"", page)
	}
	kill := url.Values{"path": {"coppice/node/router"}, "name": {"router"}}
	for path, form := range map[string]url.Values{"tree/kill": kill, "level": {"level": {"debug"}}, "profile": {}} {
		res := v.do(http.MethodPost, dashboard.Path+path, form, "X-Coppice", "1")
		require.Equal(t, http.StatusForbidden, res.StatusCode, path)
	}
	require.Equal(t, http.StatusForbidden, v.do(http.MethodGet, dashboard.Path+"diagnosis", nil).StatusCode)
	require.Equal(t, http.StatusUnauthorized, v.do(http.MethodGet, "/metrics", nil).StatusCode,
		"the cookie is for the dashboard alone")

	// The admin token, and a link, act.
	require.Equal(t, dashboard.Path, v.login(n.Token()))
	_, body = v.get(dashboard.Path)
	require.Contains(t, body, "data-post=\"level\"")
	require.NoError(t, n.Supervisor().Kill("coppice/node/engines/retention",
		fmt.Errorf("dial postgres://me:PSQLPASSWORD@db/x with %s", n.Token())))
	n.AwaitSettled()
	res := v.do(http.MethodGet, dashboard.Path+"diagnosis", nil)
	require.Equal(t, http.StatusOK, res.StatusCode)
	parts := archive(t, res.Body)
	for _, part := range []string{"tree.txt", "goroutines.txt", "config.json", "troubles.json", "tree-events.jsonl",
		"heap.pb.gz", "MISSING"} {
		require.Contains(t, parts, part)
	}
	require.Empty(t, parts["MISSING"])
	require.Contains(t, parts["tree-events.jsonl"], "dial postgres://")
	for name, data := range parts {
		require.NotContains(t, data, n.Token(), name)
		require.NotContains(t, data, "PSQLPASSWORD", name)
	}

	linked := visit(t, n)
	res = linked.do(http.MethodPost, dashboard.Path+"session",
		url.Values{"code": {dashboard.Code(n.Token(), time.Now())}}, "X-Coppice", "1")
	require.Equal(t, http.StatusNoContent, res.StatusCode)
	before, err := n.Supervisor().Place("coppice/node/router")
	require.NoError(t, err)
	require.Equal(t, http.StatusNoContent, linked.do(http.MethodPost, dashboard.Path+"tree/kill", kill, "X-Coppice",
		"1").StatusCode)
	n.Await("the router is started again", func() bool {
		p, err := n.Supervisor().Place("coppice/node/router")
		return err == nil && p.Incarnation > before.Incarnation
	})

	// A session ends with its token.
	reader := visit(t, n)
	require.Equal(t, dashboard.Path, reader.login(strings.TrimSpace(string(read))))
	require.NoError(t, os.Remove(filepath.Join(n.Home(), "read.token")))
	c, err := config.Load(n.Home())
	require.NoError(t, err)
	require.NoError(t, n.Node().Reload(c))
	code, _ = reader.get(dashboard.Path)
	require.Equal(t, http.StatusSeeOther, code)
}

// archive returns the files of a tar archive by their base names.
func archive(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	z, err := gzip.NewReader(r)
	require.NoError(t, err)
	files, out := tar.NewReader(z), map[string]string{}
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		data, err := io.ReadAll(files)
		require.NoError(t, err)
		out[path.Base(h.Name)] = string(data)
	}
}

// The processor time of a profile is that of the children, by their labels.
func TestAProfileOnThePage(t *testing.T) {
	n := nodetest.Start(t, nodetest.Config(func(c *config.Config) { c.Dashboard = "full" }))
	v := visit(t, n)
	require.Equal(t, dashboard.Path, v.login(n.Token()))

	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				submit(t, n, "busy")
			}
		}
	}()
	res := v.do(http.MethodPost, dashboard.Path+"profile", url.Values{}, "X-Coppice", "1")
	data, err := io.ReadAll(res.Body)
	close(stop)
	<-done
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, "%s", data)
	require.Contains(t, string(data), "coppice/node/transactions/")
}
