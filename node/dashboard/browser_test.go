package dashboard_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"image/png"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/dashboard"
	"github.com/coppice-go/coppice/node/nodetest"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/supervisor/eyes/eyestest"
)

var update = flag.Bool("update", false, "write the pictures of the docs anew")

// allPages are the pages of a node, with the place of one child.
var allPages = []string{"", "tree/", "tree/place?path=coppice/node/router", "top", "events", "chain", "streams",
	"rounds", "resets", "disk", "login"}

// enter begins a session with a link in a browser.
func enter(t *testing.T, c *eyestest.Chrome, n *nodetest.Node) string {
	t.Helper()
	at := "http://" + n.Address() + dashboard.Path
	c.Open(at + "login#" + dashboard.Code(n.Token(), time.Now()))
	c.Await(`document.getElementById('troubles') && document.getElementById('actions')`)
	return at
}

// axe is axe-core 4.14.1, as its makers publish it.
func axe(t *testing.T) string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "axe-core-4.14.1.min.js.gz"))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	script, err := io.ReadAll(z)
	require.NoError(t, err)
	return string(script)
}

func submit(t *testing.T, n *nodetest.Node, key string) {
	t.Helper()
	data, err := kv.Encode(kv.Put([]byte(key), []byte("v")))
	require.NoError(t, err)
	_, err = n.Client().SubmitWait(t.Context(), chain.NewTx(kv.Name, data, time.Minute))
	require.NoError(t, err)
}

// Rows 8 and 9: no page asks another origin, breaks its own policy or has an error, and axe-core
// finds nothing serious or critical in any, light or dark.
func TestPagesInABrowser(t *testing.T) {
	c := eyestest.Browse(t)
	level := zap.NewAtomicLevelAt(zap.InfoLevel)
	n := nodetest.Start(t, nodetest.Profile(plan.Chaos), nodetest.With(node.WithLevel(level)),
		nodetest.Config(func(c *config.Config) { c.Dashboard = "full" }))
	for i := range 3 {
		submit(t, n, fmt.Sprint(i))
		n.Cut("coppice/node/engines/retention")
	}
	at := enter(t, c, n)
	script := axe(t)
	c.Await(`document.getElementById('troubles').innerText.includes('crashes again and again')`) // without a reload
	picture(t, c)

	for _, page := range allPages {
		c.Problems = nil
		c.Open(at + page)
		c.Await(fmt.Sprintf("location.href === %q", at+page))
		c.Await(`document.readyState === 'complete' && document.querySelector('main')`)
		c.Eval("new Promise(r => setTimeout(r, 100))", nil) // what a script of the page draws
		require.Empty(t, c.Problems, page)

		c.Eval(script+";0", nil)
		for _, dark := range []bool{false, true} {
			c.Dark(dark)
			var found []struct {
				ID, Impact, Help string
				Nodes            []struct{ HTML, FailureSummary string }
			}
			rules := "{}"
			if dark {
				rules = `{runOnly: ['color-contrast']}` // nothing else depends on the colours
			}
			c.Eval(`axe.run(document, `+rules+`).then(r => r.violations.map(v => ({id: v.id,
				impact: v.impact, help: v.help,
				nodes: v.nodes.map(n => ({html: n.html, failureSummary: n.failureSummary}))})))`,
				&found)
			for _, v := range found {
				if v.Impact == "serious" || v.Impact == "critical" {
					text, _ := json.MarshalIndent(v, "", " ") // of texts
					t.Errorf("%q, dark %t: %.2000s", page, dark, text)
				}
			}
		}
		var nodes int
		c.Eval(`document.querySelectorAll('*').length`, &nodes)
		require.Less(t, nodes, 1500, page)
	}

	for _, u := range c.Requests {
		if !strings.HasPrefix(u, "data:") && u != "about:blank" {
			require.True(t, strings.HasPrefix(u, "http://"+n.Address()), "asked another origin: %s", u)
		}
	}

	// Row 1: what the first load of the overview brings, its charts among it.
	c.Open("about:blank")
	c.Await(`location.href === 'about:blank'`)
	c.Bytes = 0
	c.Open(at)
	c.Await(`document.querySelector('svg polyline')`)
	p := c.Timing()
	t.Logf("the overview was answered after %.0f ms, painted after %.0f, loaded after %.0f, with %.0f bytes",
		p.Answered, p.Painted, p.Loaded, c.Bytes)
	require.Less(t, c.Bytes, 120_000.0)

	// An action: the level of the diagnostics, with the keyboard.
	c.Await(`document.querySelector('form[data-post=level]') && document.readyState === 'complete'`)
	c.Eval(`document.querySelector('select[name=level]').value = 'error'`, nil)
	c.Eval(`document.querySelector('form[data-post=level] button').focus()`, nil)
	c.Press("Enter")
	c.Await(`document.querySelector('form[data-post=level] output').innerText.includes(
		'the level was info, and is error')`)
	require.Equal(t, zap.ErrorLevel, level.Level())
}

// picture writes the picture of the docs, if it is asked for, and checks the one that is there.
func picture(t *testing.T, c *eyestest.Chrome) {
	t.Helper()
	const name = "../../docs/dashboard.png"
	if *update {
		c.Size(960, 540)
		require.NoError(t, os.WriteFile(name, c.Picture(), 0o644))
	}
	data, err := os.ReadFile(name)
	require.NoError(t, err, "go test ./node/dashboard -run TestPagesInABrowser -update makes it")
	require.Less(t, len(data), 100<<10)
	_, err = png.DecodeConfig(bytes.NewReader(data))
	require.NoError(t, err)
}

// Row 7: a page says that the node is gone, and when it is back it goes on: each record of the log
// is shown once. The node loses its power, and comes back at its address.
func TestANodeThatIsBack(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	listen := l.Addr().String()
	require.NoError(t, l.Close())

	c := eyestest.Browse(t)
	n := nodetest.Start(t, nodetest.Config(func(c *config.Config) { c.Listen = listen }))
	c.Open("http://" + listen + dashboard.Path + "events?filter=" + url.QueryEscape("kind=BlockCommitted"))
	c.Await(`document.getElementById('pause') && !document.getElementById('pause').hidden`)
	records := func() (cursors []string) {
		c.Eval(`[...document.querySelectorAll('#events li')].map(e => e.dataset.cursor)`, &cursors)
		return cursors
	}
	blocks := func(more int) {
		t.Helper()
		want := len(records()) + more
		n.Await("records on the page", func() bool {
			submit(t, n, time.Now().String()) // the stream may begin after a block
			return len(records()) >= want
		})
	}
	blocks(3)

	back := make(chan struct{})
	go func() { defer close(back); n.Crash() }()
	c.Await(`document.getElementById('link').innerText.includes('not connected')`)
	<-back
	took := c.Await(`document.getElementById('link').innerText === ''`)
	t.Logf("the page was connected %v after the node was ready", took.Round(time.Millisecond))

	blocks(2)
	seen := map[string]bool{}
	for _, cursor := range records() {
		require.False(t, seen[cursor], "record %s is shown twice", cursor)
		seen[cursor] = true
	}

	c.Open("http://" + listen + dashboard.Path + "events?filter=nonsense=1")
	c.Await(`document.body.innerText.includes('no filter is called "nonsense"')`)
}
