package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/supervisor"
)

// healthEngine is the id of the engine that serves /healthcheck at an address of its own.
const healthEngine = "healthcheck"

// withHealthListener adds the engine, if the configuration has an address for it.
func withHealthListener(n *Node) {
	if n.config.Rounds.Healthcheck == "" {
		return
	}
	WithEngine(Engine{ID: healthEngine, Start: func(engines.Directory) supervisor.StartFunc {
		return n.startHealthListener
	}})(n)
}

// startHealthListener listens. The handler needs no other engine: it answers while they restart.
func (n *Node) startHealthListener(ctx context.Context) (supervisor.Service, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", n.config.Rounds.Healthcheck)
	if err != nil {
		return nil, fmt.Errorf("%w: rounds.healthcheck: %w", exit.ErrConfig, err)
	}

	n.diagnostics.Info("the healthcheck of the rounds listens", zap.Stringer("address", l.Addr()))
	n.healthAddr.Store(l.Addr().String())
	mux := http.NewServeMux()
	mux.Handle("/healthcheck", n.healthHandler())

	return healthListener{l, &http.Server{Handler: mux, ReadTimeout: healthTime, WriteTimeout: healthTime,
		IdleTimeout: healthTime, MaxHeaderBytes: 8 << 10}}, nil
}

// healthTime bounds a request, and how long a connection may be idle.
const healthTime = 10 * time.Second

type healthListener struct {
	listener net.Listener
	server   *http.Server
}

// String names the service in reports.
func (healthListener) String() string { return "healthcheck of the rounds" }

// Serve serves requests until ctx ends.
func (h healthListener) Serve(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- h.server.Serve(h.listener) }()

	for {
		select {
		case err := <-ended:
			return err
		case fault := <-supervisor.Faults(ctx):
			fault.Do(ctx)
		case <-ctx.Done():
			err := h.server.Close()
			if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
				err = errors.Join(err, served)
			}
			if err != nil {
				return err
			}
			return context.Cause(ctx)
		}
	}
}
