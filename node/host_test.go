package node

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/home"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// A child that is ending while a fault is offered to it is reported as not running, and not as one
// that takes no faults.
func TestAChildThatIsEndingIsNotRunning(t *testing.T) {
	told, release := make(chan struct{}, 1), make(chan struct{})
	slow := Engine{ID: "slow", Start: func(engines.Directory) supervisor.StartFunc {
		return supervisor.Start(func(ctx context.Context) error {
			<-ctx.Done()
			select {
			case told <- struct{}{}:
			default:
			}
			<-release
			return context.Cause(ctx)
		})
	}}
	dir := t.TempDir()
	_, err := home.Init(dir, home.InitOptions{Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	h := driveHome(t, dir, WithEngine(slow))
	defer h.close()

	const path = "coppice/node/engines/slow"
	require.NoError(t, h.Supervisor().Kill(path, errors.New("cut")))
	<-told
	_, err = h.view().Kill(t.Context(), api.Kill{Path: path, How: apiv1.How_HOW_PANIC})
	close(release)
	require.ErrorIs(t, err, api.ErrNotRunning)
	require.NotErrorIs(t, err, api.ErrHow)
	suptest.Wait(t, h.rec, 2, func(e supervisor.ChildStarted) bool { return e.Subject() == path })
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()

	_, err = h.view().Kill(short, api.Kill{Path: path, How: apiv1.How_HOW_PANIC})
	require.ErrorIs(t, err, api.ErrHow, "it never takes one")
}
