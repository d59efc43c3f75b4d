package node

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/supervisor"
)

// The sign of life for a watchdog is an answer. So an engine that is deaf is noticed, although the
// tree shows it as running. An engine that is down is no error, because the tree takes care of it.
func TestAliveIsAnAnswer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	_, err := home.Init(dir, home.InitOptions{Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	c, err := config.Load(dir)
	require.NoError(t, err)
	changed := make(chan struct{}, 1)
	n, err := New(dir, c, WithObserver(supervisor.ObserverFunc(func(supervisor.Event) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	defer func() {
		stop()
		require.NoError(t, <-ended)
	}()

	again := time.NewTicker(10 * time.Millisecond) // the last event may come before its effect is visible
	defer again.Stop()

	for n.Down() != "" {
		select {
		case <-changed:
		case <-again.C:
		}
	}

	within := func(d time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		return n.Alive(ctx)
	}
	require.NoError(t, within(time.Minute))

	deaf, release := make(chan struct{}), make(chan struct{})
	require.NoError(t, n.host.Inject(t.Context(), "coppice/node/transactions/storage",
		supervisor.Fault{Name: "deaf", Do: func(context.Context) {
			close(deaf)
			<-release
		}}))
	<-deaf
	require.Empty(t, n.Down(), "the tree takes it for running")
	require.ErrorContains(t, within(200*time.Millisecond), "the engines of the node do not answer")
	close(release)
	require.NoError(t, within(time.Minute))
}
