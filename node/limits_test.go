package node_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// held is a driver that starts the chain and orders nothing, so that workers live as long as a test
// needs them.
type held struct{}

func (held) Name() string { return "held" }

func (held) Start(core consensus.Core) supervisor.StartFunc {
	return supervisor.Start(func(ctx context.Context) error {
		if _, err := core.Ordering.InitChain(ctx, core.Genesis); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	})
}

// rig is a running node and the history of its tree.
type rig struct {
	*node.Node
	home  string
	rec   *suptest.Recorder
	ended chan error
	stop  context.CancelFunc
	addr  string
}

func run(t *testing.T, profile plan.Profile, opts ...node.Option) *rig {
	t.Helper()
	dir := t.TempDir()
	_, err := home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: profile})
	require.NoError(t, err)
	return open(t, dir, opts...)
}

func open(t *testing.T, home string, opts ...node.Option) *rig {
	t.Helper()
	c, err := config.Load(home)
	require.NoError(t, err)
	r := &rig{home: home, rec: suptest.NewRecorder(), ended: make(chan error, 1)}
	r.Node, err = node.New(home, c, append(opts, node.WithObserver(r.rec))...)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.ended <- r.Run(ctx) }()
	r.addr, err = r.Addr(t.Context())
	require.NoError(t, err)
	r.rec.Settle(t, r.Supervisor())

	return r
}

func (r *rig) close(t *testing.T) {
	t.Helper()
	r.stop()
	require.NoError(t, <-r.ended)
}

// gaveUp returns the supervisors that gave up after a mark, in order.
func (r *rig) gaveUp(mark int) []string {
	paths := []string{}
	for _, e := range r.rec.Events()[mark:] {
		if g, ok := e.(supervisor.GaveUp); ok {
			paths = append(paths, g.Subject())
		}
	}
	return paths
}

var errCut = errors.New("cut by the test")

// Each limit as shipped leads to the escalation that the design gives it. A row lists the
// supervisors that give up at the first kill, at the second and so on, all within the period.
func TestShippedLimits(t *testing.T) {
	const (
		root         = "coppice"
		bus          = root + "/pubsub"
		core         = root + "/node"
		transactions = core + "/transactions"
		mempool      = transactions + "/mempool"
		engs         = core + "/engines"
	)

	times := func(n int, each ...string) (all [][]string) {
		for range n {
			all = append(all, append([]string{}, each...))
		}
		return all
	}
	then := func(all [][]string, last ...string) [][]string { return append(all, last) }
	for _, tc := range []struct {
		profile plan.Profile
		kill    string
		want    [][]string // by kill: the supervisors that give up
		ends    bool       // the last kill ends the process
	}{
		{plan.Default, transactions + "/storage", then(times(3), transactions), false},
		{plan.Default, transactions + "/ordering", then(times(3), transactions), false},
		{plan.Default, mempool, then(times(3), transactions), false},
		{plan.Default, mempool + "/pool", then(times(3, mempool), mempool, transactions), false},
		{plan.Default, mempool + "/workers", then(times(3, mempool), mempool, transactions), false},
		{plan.Default, mempool + "/workers/*", then(times(3, mempool), mempool, transactions), false},
		{plan.Strict, transactions + "/storage", times(1, transactions), false},
		{plan.Strict, mempool + "/pool", times(1, mempool, transactions), false},
		{plan.Strict, mempool + "/workers/*", times(1, mempool, transactions), false},
		{plan.Default, core + "/router", then(times(5), core), false},
		{plan.Default, core + "/logger", then(times(5), core), false},
		{plan.Default, transactions, then(times(5), core), false},
		{plan.Default, engs + "/consensus", then(times(10), engs), false},
		{plan.Default, engs + "/api", then(times(10), engs), false},
		{plan.Default, engs, then(times(5), core), false},
		{plan.Default, bus + "/registry", then(times(3), bus), false},
		{plan.Default, bus + "/broker", then(times(3), bus), false},
		{plan.Default, bus + "/filters", then(times(3), bus), false},
		{plan.Default, bus + "/filters/*", then(times(3, bus+"/filters"), bus+"/filters", bus), false},
		{plan.Default, bus, then(times(3), root), true},
		{plan.Default, core, then(times(3), root), true},
		{plan.Default, "admin", then(times(3), "host"), true},
		{plan.Default, root, times(1), true},
	} {
		t.Run(string(tc.profile)+"/"+strings.ReplaceAll(strings.TrimPrefix(tc.kill, root+"/"), "/", "."),
			func(t *testing.T) {
				r := run(t, tc.profile, node.WithDriver(held{}))
				for i, want := range tc.want {
					last := i == len(tc.want)-1
					mark := r.rec.Mark()
					path := r.living(t, tc.kill)
					again := strings.TrimSuffix(tc.kill, "/*")
					before, _ := r.Supervisor().Tree().Find(again)
					require.NoError(t, r.Supervisor().Kill(path, errCut))
					if last && tc.ends {
						break
					}

					// What was killed, or what replaced it, is there again. What restarts a single
					// agent or worker is a new start of the supervisor above it.
					suptest.After(t, r.rec, mark, 1, func(e supervisor.ChildStarted) bool {
						return e.Subject() == again && e.Incarnation > before.Incarnation
					})
					r.rec.Settle(t, r.Supervisor())
					require.Equal(t, want, r.gaveUp(mark), "kill %d of %s", i+1, path)
				}

				if !tc.ends {
					r.close(t)
					return
				}

				err := <-r.ended
				require.ErrorIs(t, err, exit.ErrGaveUp)
				require.Equal(t, exit.GaveUp, exit.Code(err))
				require.ErrorIs(t, err, supervisor.ErrKilled, "the reason reaches the process's end")
			})
	}
}

// living resolves a path. If its last element is "*", living first starts a child there.
func (r *rig) living(t *testing.T, path string) string {
	t.Helper()
	dir, any := strings.CutSuffix(path, "/*")
	if !any {
		return path
	}

	if strings.HasSuffix(dir, "/filters") {
		sub, err := r.Bus().SubscribeWait(t.Context(), everyRecord, dropOldest)
		require.NoError(t, err)
		t.Cleanup(sub.Close)
	} else {
		c := client.New(r.addr)
		defer c.CloseIdle()
		body, err := kv.Encode(kv.Add([]byte("n"), 1)) // it reads, so it waits for its place
		require.NoError(t, err)
		_, err = c.Submit(t.Context(), chain.NewTx("kv", body, time.Minute))
		require.NoError(t, err)
	}

	found := ""
	require.Eventually(t, func() bool {
		tree, _ := r.Supervisor().Tree().Find(dir)
		for _, c := range tree.Children {
			if c.State == supervisor.Running {
				found = c.Path
				return true
			}
		}
		return false
	}, 10*time.Second, time.Millisecond)

	return found
}
