package node

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// slowToStop is an engine that takes a while to end after it was told to, as CometBFT does.
func slowToStop(takes time.Duration) Option {
	return WithEngine(Engine{ID: "slow", Start: func(engines.Directory) supervisor.StartFunc {
		return func(context.Context) (supervisor.Service, error) {
			return supervisor.ServiceFunc(func(ctx context.Context) error {
				<-ctx.Done()
				<-time.After(takes)
				return context.Cause(ctx)
			}), nil
		}
	}})
}

// While a node whose log has died is being stopped, engines first, its transaction core has no log
// to run on. A start of the core waits for the stop, instead of failing as often as its limit
// allows, because each attempt opens the state. (Seen under chaos: 92 attempts in 3 s.)
func TestTheCoreDoesNotRestartInALoopWhileTheNodeStops(t *testing.T) {
	for _, dead := range []string{"logger", "router"} {
		t.Run(dead, func(t *testing.T) {
			dir := t.TempDir()
			_, err := home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Chaos})
			require.NoError(t, err)
			h := driveHome(t, dir, slowToStop(600*time.Millisecond))
			defer h.close()

			_, err = h.ordering.InitChain(t.Context(), h.genesis)
			require.NoError(t, err)
			b, mark := h.next(), h.rec.Mark()
			path := "coppice/node/" + dead
			before, _ := h.Supervisor().Tree().Find(path)
			require.NoError(t, h.Supervisor().Kill(path, errors.New("cut")))
			suptest.After(t, h.rec, mark, 1, func(e supervisor.ChildExited) bool { return e.Subject() == path })
			_, err = h.ordering.Order(t.Context(), b) // the core learns that its log is gone
			require.Error(t, err)
			suptest.After(t, h.rec, mark, 1, func(e supervisor.ChildStarted) bool {
				return e.Subject() == path && e.Incarnation > before.Incarnation
			})
			h.rec.Settle(t, h.Supervisor())
			tries := 0

			for _, e := range h.rec.Events()[mark:] {
				if s, ok := e.(supervisor.GroupRestart); ok && s.Subject() == corePath {
					tries++
				}
			}

			require.LessOrEqual(t, tries, 1, h.rec)
		})
	}
}
