package node_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/plan"
)

func TestMain(m *testing.M) {
	consensus.Register(solo.Kind{}, comet.Kind{})
	if code, is := node.RunReexecuted(os.Args); is {
		os.Exit(code)
	}
	if home := os.Getenv(deadlyHome); home != "" {
		os.Exit(runDeadly(home, os.Getenv(deadlyMode)))
	}
	// goleveldb's pool ends up to a second after its database was closed.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

func newHome(t *testing.T) (string, config.Config) {
	t.Helper()
	dir := t.TempDir()
	_, err := home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Chaos})
	require.NoError(t, err)
	c, err := config.Load(dir)
	require.NoError(t, err)
	return dir, c
}

func TestSmoke(t *testing.T) {
	home, c := newHome(t)
	n, err := node.New(home, c, node.WithLogger(zaptest.NewLogger(t)))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	addr, err := n.Addr(t.Context())
	require.NoError(t, err)
	cl := client.New(addr)
	defer cl.CloseIdle()

	wctx, wcancel := context.WithTimeout(t.Context(), time.Minute)
	defer wcancel()

	_, err = cl.WaitReady(wctx)
	require.NoError(t, err)
	body, err := kv.Encode(kv.Put([]byte("k"), []byte("v")), kv.Add([]byte("n"), 1))
	require.NoError(t, err)
	tx := chain.NewTx("kv", body, time.Minute)
	_, err = cl.SubmitWait(wctx, tx)
	require.NoError(t, err)
	cancel()
	require.NoError(t, <-ended)
	v, err := offline.Verify(t.Context(), home, offline.VerifyOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 1, v.Txs)
}
