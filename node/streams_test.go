package node_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/file"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/nodetest"
)

// streaming starts a node with a file sink called out, which gets the changes of keys.
func streaming(t *testing.T) *nodetest.Node {
	t.Helper()
	n := nodetest.Start(t, nodetest.OnDisk(), nodetest.With(node.WithSink(file.Factory())))
	n.Stop()
	define(t, n.Home(), "out", "kind = \"file\"\ndir = \"../out\"\nkeep_behind = \"0s\"\n")
	n.Begin()
	return n
}

func define(t *testing.T, dir, name, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(home.StreamsDir(dir), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(home.StreamsDir(dir), name+".toml"), []byte(text), 0o600))
}

// put writes a key and returns the height of its block.
func put(t *testing.T, c *client.Client, key string) uint64 {
	t.Helper()
	body, err := kv.Encode(kv.Put([]byte(key), []byte("v")))
	require.NoError(t, err)
	r, err := c.SubmitWait(t.Context(), chain.NewTx(kv.Name, body, time.Minute))
	require.NoError(t, err)
	return r.Version.Height
}

// streamed waits until the sink has a height, and returns the keys that it holds, in order.
func streamed(t *testing.T, n *nodetest.Node, height uint64) []string {
	t.Helper()
	return streamedTo(t, n, streams.Position{Height: height})
}

func streamedTo(t *testing.T, n *nodetest.Node, at streams.Position) (keys []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), nodetest.Timeout)
	defer cancel()
	require.NoError(t, n.Node().Streams().Wait(ctx, "out", at))

	d, err := streams.ParseDefinition(filepath.Join(home.StreamsDir(n.Home()), "out.toml"),
		[]byte("kind = \"file\"\ndir = \"../out\"\n"))
	require.NoError(t, err)
	s, err := file.Factory().New(d, streams.Secrets{})
	require.NoError(t, err)
	require.NoError(t, s.Read(ctx, streams.Position{}, at, func(e streams.Event) error {
		if c, ok := e.Body.(*streams.Change); ok {
			keys = append(keys, string(c.Key))
		}
		return nil
	}))

	return keys
}

// Items 14, 15 and 68: whatever dies, the sink gets each block once, in order, and no other engine
// restarts for a stream.
func TestAStreamLosesNothingWhateverDies(t *testing.T) {
	n := streaming(t)
	c := n.Client()
	var want []string
	add := func() uint64 {
		key := fmt.Sprintf("key%d", len(want))
		want = append(want, key)
		return put(t, c, key)
	}

	height := add()
	require.Equal(t, want, streamed(t, n, height))

	for _, path := range []string{"streams/slots/out/writer", "streams/slots/out", "streams/slots", "streams/manager",
		"streams"} {
		n.Cut("coppice/node/engines/" + path)
		height = add()
		require.Equal(t, want, streamed(t, n, height), path)
	}
	for _, path := range []string{"coppice/node/transactions/storage", "coppice/node/logger"} {
		n.Cut(path)
		height = add()
		require.Equal(t, want, streamed(t, n, height), path)
	}

	n.Restart()
	height = add()
	require.Equal(t, want, streamed(t, n, height))

	// R40: another sink begins with a snapshot, and the first one is rebuilt.
	notes, err := n.Node().Streams().Add(t.Context(), "copy", []byte("kind = \"file\"\ndir = \"../copy\"\n"+
		"bootstrap = \"initial\"\n"), false)
	require.NoError(t, err, notes)
	require.NoError(t, n.Node().Streams().Rebuild(t.Context(), "out", "test"))
	rebuilt := func() bool {
		st, err := n.Node().StreamStatus(t.Context(), "out")
		return err == nil && st.Bootstrapped == 1 && st.State == streams.Live
	}
	require.Eventually(t, rebuilt, nodetest.Timeout, 10*time.Millisecond)
	height = add()
	require.Equal(t, want[len(want)-1:], streamed(t, n, height), "what came after the snapshot")
	for _, name := range []string{"out", "copy"} {
		ctx, cancel := context.WithTimeout(t.Context(), nodetest.Timeout)
		require.NoError(t, n.Node().Streams().Wait(ctx, name, streams.Position{Height: height}))
		cancel()
		require.ElementsMatch(t, want, state(t, n, name))
		report, err := n.Node().Streams().Verify(t.Context(), name, streams.Position{},
			streams.Position{Height: height})
		require.NoError(t, err)
		require.Empty(t, report.Findings)
		require.Positive(t, report.Units)
	}

	figures := scraped(t, n)
	for _, line := range []string{
		`coppice_stream_state{slot="out",state="live"} 1`, `coppice_stream_state{slot="out",state="retrying"} 0`,
		`coppice_stream_lag_heights{slot="out"} 0`, `coppice_stream_lag_bytes{slot="out"} 0`,
		`coppice_stream_log_held_bytes{slot="out"} 0`, `coppice_stream_restarts_total{slot="out"} 0`,
		`coppice_stream_ack_duration_seconds_count{slot="out"} `,
	} {
		require.Contains(t, figures, "\n"+line, "item 33")
	}
}

// state returns the keys that a file sink's readers know: of the snapshot, and of the changes.
func state(t *testing.T, n *nodetest.Node, name string) (keys []string) {
	t.Helper()
	d, err := streams.ParseDefinition(filepath.Join(home.StreamsDir(n.Home()), name+".toml"),
		fmt.Appendf(nil, "kind = \"file\"\ndir = \"../%s\"\n", name))
	require.NoError(t, err)
	s, err := file.Factory().New(d, streams.Secrets{})
	require.NoError(t, err)
	require.NoError(t, s.Read(t.Context(), streams.Position{}, streams.Position{Height: math.MaxUint64},
		func(e streams.Event) error {
			if key := string(e.Key()); key != "" && !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
			return nil
		}))
	return keys
}

// scraped returns the metrics of a node.
func scraped(t *testing.T, n *nodetest.Node) string {
	t.Helper()
	h := &http.Client{Transport: &http.Transport{}}
	defer h.CloseIdleConnections()
	res, err := h.Get("http://" + n.Address() + "/metrics")
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return "\n" + string(body)
}

// Exit code 3: a definition that cannot be used is named with its file and place.
func TestABadDefinitionIsRefused(t *testing.T) {
	n := nodetest.Start(t, nodetest.OnDisk(), nodetest.With(node.WithSink(file.Factory())))
	n.Stop()
	for text, want := range map[string]string{
		"kind = \"nosuch\"\n":                                           `kind is "nosuch", want one of file`,
		"kind = \"file\"\n":                                             "dir is missing",
		"kind = \"file\"\ndir = \"x\"\ncolour = 1\n":                    `out.toml:3:1: unknown key "colour"`,
		"kind = \"file\"\ndir = \"x\"\nfilter = [1]\n":                  "out.toml:3:",
		"kind = \"file\"\ndir = \"x\"\nfilter = [\"knd=tx\"]\n":         `no filter is called "knd"`,
		"kind = \"file\"\ndir = \"x\"\ncodecs = { \"a\" = \"yaml\" }\n": `codec of "a" is "yaml"`,
		"kind = \"file\"\ndir = \"x\"\non_gap = \"ignore\"\n":           `on_gap is "ignore", want one of`,
		"kind = \"file\"\ndir = \"x\"\nkeep_time = \"later\"\n":         "out.toml:3:",
	} {
		define(t, n.Home(), "out", text)
		_, err := node.New(n.Home(), config.Defaults(), node.WithSink(file.Factory()))
		require.ErrorIs(t, err, exit.ErrConfig, text)
		require.ErrorContains(t, err, want)
	}
}
