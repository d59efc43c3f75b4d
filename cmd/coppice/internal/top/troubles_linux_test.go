package top_test

import (
	"context"
	"errors"
	"html"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/coppice-go/coppice/cmd/coppice/internal/top"
	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/file"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/pebblefs"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/nodetest"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/node/trouble"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor"
)

// looks are what an operator has of a node: the first page of its dashboard, and a "coppice top"
// that runs.
type looks struct {
	*running
	screen func() string
}

type running = nodetest.Node // whose method Node is not hidden by a field of that name

func look(t *testing.T, n *nodetest.Node) looks { return looks{n, top.Live(t, n.Client())} }

// shown waits until the node tells a trouble of a kind, whose line has want, and until both looks
// have that line. It returns what the node tells.
func shown(t *testing.T, n looks, kind trouble.Kind, want string) *apiv1.Trouble {
	t.Helper()
	var at *apiv1.Trouble
	var page, screen time.Duration
	began := time.Now()
	n.Await("trouble "+string(kind)+": "+want, func() bool {
		list, err := n.Client().Troubles(t.Context())
		require.NoError(t, err)
		for _, x := range list {
			if x.Kind != string(kind) || !strings.Contains(x.Text, want) {
				continue
			}
			at = x
			if page == 0 && strings.Contains(body(t, n, "/dashboard/"), html.EscapeString(want)) {
				page = time.Since(began)
			}
			if screen == 0 && strings.Contains(n.screen(), want) {
				screen = time.Since(began)
			}
		}
		return page > 0 && screen > 0
	})
	t.Logf("%s: on the dashboard after %.1f s, in coppice top after %.1f s", kind, page.Seconds(), screen.Seconds())
	require.NotEmpty(t, at.Advice)
	require.NotZero(t, at.Since.AsTime())
	return at
}

// over waits until the node tells no trouble of a kind any more.
func over(t *testing.T, n looks, kind trouble.Kind) {
	t.Helper()
	n.Await("the end of "+string(kind), func() bool {
		list, err := n.Client().Troubles(t.Context())
		require.NoError(t, err)
		for _, x := range list {
			if x.Kind == string(kind) {
				return false
			}
		}
		return true
	})
}

func body(t *testing.T, n looks, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.Address()+path, nil)
	require.NoError(t, err)
	res, err := web.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, "%s: %s", path, data)
	return string(data)
}

var web = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// poison is a backend whose transactions go on for as long as it is armed, so that a test can kill
// their workers.
type poison struct{ armed *atomic.Bool }

func (poison) Name() string       { return "poison" }
func (poison) Check([]byte) error { return nil }

func (p poison) Execute(v chain.View, body []byte) ([]byte, error) {
	for p.armed.Load() {
		if _, _, err := v.Get([]byte("poison")); err != nil {
			return nil, err
		}
		<-time.After(20 * time.Millisecond)
	}
	return nil, v.Put([]byte("poison"), body)
}

// dam is a sink that takes nothing while it is closed.
type dam struct {
	streams.Sink
	closed *atomic.Bool
}

func (d dam) Write(ctx context.Context, x streams.Delivery) error {
	for d.closed.Load() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return d.Sink.Write(ctx, x)
}

// slowFilter is a filter that takes its time until it is released.
type slowFilter struct{ released <-chan struct{} }

func (slowFilter) Key() string                { return "slow=filter" }
func (slowFilter) String() string             { return "slow=filter" }
func (f slowFilter) Match(engines.Event) bool { <-f.released; return false }

var errPoison = errors.New("the worker met something outside of the state")

// worker returns a worker that runs, or the zero Tree.
func worker(n looks, workers string) supervisor.Tree {
	p, ok := n.Supervisor().Tree().Find(workers)
	if !ok || len(p.Children) == 0 || p.Children[0].State != supervisor.Running {
		return supervisor.Tree{}
	}
	return p.Children[0]
}

type box struct{}

// Troubles are planted, one after the other, in a running node. Each has its line in the API, on
// the first page of the dashboard and in "coppice top", with its place, and is gone when it is
// over. Those of CometBFT are in TestStatesOfANode.
func TestPlantedTroubles(t *testing.T) {
	var armed, closed atomic.Bool
	full := make(chan struct{})
	boxes := make(chan engines.Directory, 1)
	sink := file.Factory()
	open := sink.New
	sink.New = func(d streams.Definition, s streams.Secrets) (streams.Sink, error) {
		at, err := open(d, s)
		return dam{at, &closed}, err
	}
	n := look(t, nodetest.Start(t, nodetest.OnDisk(), nodetest.Profile(plan.Chaos), nodetest.With(node.WithSink(sink),
		node.WithBackend(poison{&armed}), node.WithEngine(node.Engine{ID: "box",
			Start: func(dir engines.Directory) supervisor.StartFunc {
				select {
				case boxes <- dir:
				default:
				}
				return engines.Spec{Name: "box", Mailbox: 8, Init: func(_ context.Context, s *engines.Server) error {
					engines.OnCast(s, func(ctx context.Context, _ box) error {
						select {
						case <-full:
						case <-ctx.Done():
						}
						return nil
					})
					return nil
				}}.Start(dir)
			}}))))
	c := n.Client()
	list, err := c.Troubles(t.Context())
	require.NoError(t, err)
	require.Empty(t, list, "a well node has none")
	require.Contains(t, body(t, n, "/dashboard/"), "nothing is known to be wrong")

	t.Run("a full mailbox", func(t *testing.T) {
		at := engines.NewAddress(<-boxes, "box")
		for range 9 {
			require.NoError(t, engines.Cast(t.Context(), at, box{}))
		}
		x := shown(t, n, trouble.MailboxFull, "the mailbox of box is full: ")
		require.Equal(t, "coppice/node/engines/box", x.Where)
		require.Contains(t, body(t, n, "/dashboard/"),
			`href="/dashboard/tree/place?path=coppice%2Fnode%2Fengines%2Fbox"`)
		close(full)
		over(t, n, trouble.MailboxFull)
	})

	t.Run("a lagging sink", func(t *testing.T) {
		_, err := n.Node().Streams().Add(t.Context(), "out", []byte("kind = \"file\"\ndir = \"../out\"\n"), false)
		require.NoError(t, err)
		closed.Store(true)
		data, err := kv.Encode(kv.Put([]byte("k"), []byte("v")))
		require.NoError(t, err)
		for range 12 {
			_, err := c.SubmitWait(t.Context(), chain.NewTx(kv.Name, data, time.Minute))
			require.NoError(t, err)
		}
		x := shown(t, n, trouble.Lagging, "the sink of the stream out lags: it lacks ")
		require.Equal(t, "out", x.Where)
		page := body(t, n, "/dashboard/streams")
		require.Contains(t, page, "out (file)")
		closed.Store(false)
		over(t, n, trouble.Lagging)
	})

	t.Run("a hot filter", func(t *testing.T) {
		release := make(chan struct{})
		free := sync.OnceFunc(func() { close(release) })
		defer free()
		s, err := n.Node().Bus().Subscribe(t.Context(), pubsub.Chain[engines.Event]{slowFilter{release}},
			pubsub.DropOldest{Buffer: 1})
		require.NoError(t, err)
		defer s.Close()
		for sent := 0; sent < 2*pubsub.DefaultMailbox; {
			if n.Node().Bus().Publish(engines.GateChanged{}) == nil { // or the broker is behind
				sent++
			}
		}
		shown(t, n, trouble.HotFilter, "does not keep up")
		require.Contains(t, body(t, n, "/dashboard/top"), "Filters of events")
		free()
	})

	t.Run("an orphan", func(t *testing.T) {
		_, err := c.Kill(t.Context(), "coppice/node/engines/retention", apiv1.How_HOW_HANG, 6*time.Second)
		require.NoError(t, err)
		x := shown(t, n, trouble.Orphan, "coppice/node/engines/retention was told to stop and still runs")
		require.Contains(t, x.Where, "coppice/node/engines/retention #")
		require.Contains(t, body(t, n, "/dashboard/tree/place?path=coppice/node/engines/retention"), "host.View.strike",
			"its place has its stack")
		over(t, n, trouble.Orphan)
	})

	t.Run("a crash loop", func(t *testing.T) {
		for range 3 {
			n.Cut("coppice/node/engines/retention")
		}
		x := shown(t, n, trouble.CrashLoop, "coppice/node/engines/retention crashes again and again")
		require.Equal(t, "coppice/node/engines/retention", x.Where)
		require.Contains(t, x.Advice, "coppice/node/engines has used ")
	})

	t.Run("a poisoned transaction", func(t *testing.T) {
		armed.Store(true)
		done := make(chan error, 1)
		tx := chain.NewTx("poison", []byte("x"), time.Minute)
		raw, err := tx.Encode()
		require.NoError(t, err)
		go func() { _, err := c.SubmitWait(t.Context(), tx); done <- err }()
		const workers = "coppice/node/transactions/mempool/workers"
		last := uint64(0)
		for range 2 {
			n.Await("another worker", func() bool {
				w := worker(n, workers)
				if w.Incarnation == 0 || w.Incarnation == last { // it was killed, and may take a while to end
					return false
				}
				last = w.Incarnation
				return n.Supervisor().Kill(w.Path, errPoison) == nil
			})
		}
		x := shown(t, n, trouble.Poisoned, "has ended its worker 2 times")
		require.Equal(t, chain.HashTx(raw).String(), x.Where)
		require.True(t, x.Grave)
		armed.Store(false)
		require.NoError(t, <-done, "it is executed when its backend is mended")
	})
}

// slowFS is a disk whose syncs take time.
type slowFS struct {
	eventlog.FS
	slow *atomic.Bool
}

type slowFile struct {
	eventlog.File
	slow *atomic.Bool
}

func (f slowFS) Create(name string) (eventlog.File, error) {
	file, err := f.FS.Create(name)
	return slowFile{file, f.slow}, err
}

func (f slowFS) Open(name string, write bool) (eventlog.File, error) {
	file, err := f.FS.Open(name, write)
	if err != nil {
		return nil, err
	}
	return slowFile{file, f.slow}, nil
}

func (f slowFile) Sync() error {
	if f.slow.Load() {
		<-time.After(150 * time.Millisecond)
	}
	return f.File.Sync()
}

// A slow disk and one that is nearly full, on a file system of its own.
func TestTroublesOfADisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.Mkdir(dir, 0o755))
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=192m"); err != nil {
		if strings.Contains(","+os.Getenv("COPPICE_REQUIRE")+",", ",mount,") {
			t.Fatal(err)
		}
		t.Skipf("this process may not mount: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	if _, ok := consensus.Lookup(solo.Name); !ok {
		consensus.Register(solo.Kind{})
	}
	_, err := home.Init(filepath.Join(dir, "home"), home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0"})
	require.NoError(t, err)

	var slow atomic.Bool
	n := look(t, nodetest.Start(t, nodetest.Home(filepath.Join(dir, "home")), nodetest.With(
		node.WithDisk(slowFS{pebblefs.Adapt(pebblevfs.Default), &slow}, pebblevfs.Default))))
	c := n.Client()
	data, err := kv.Encode(kv.Put([]byte("k"), []byte("v")))
	require.NoError(t, err)

	slow.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		for ctx.Err() == nil {
			_, _ = c.SubmitWait(ctx, chain.NewTx(kv.Name, data, time.Minute))
		}
	}()
	shown(t, n, trouble.SlowDisk, "the disk is slow: a sync of the event log takes ")
	slow.Store(false)
	cancel()
	<-loaded

	var s unix.Statfs_t
	require.NoError(t, unix.Statfs(dir, &s))
	leave := 12 << 20
	require.NoError(t, os.WriteFile(filepath.Join(dir, "fill"), make([]byte, int(s.Bavail)*int(s.Bsize)-leave), 0o600))
	shown(t, n, trouble.DiskLow, "the disk is nearly full: ")
	require.Contains(t, body(t, n, "/dashboard/disk"), " of 192.0 MiB are free")
	require.NoError(t, os.Remove(filepath.Join(dir, "fill")))
	over(t, n, trouble.DiskLow)
}
