package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
	"github.com/coppice-go/coppice/supervisor"
)

// bounds are what clients of the listener may take before they are cut off.
type bounds struct {
	header, idle time.Duration // for the head of a request, and without one
	head         int           // bytes
	conns        int
	work, admin  api.IntakeOptions // of transactions and reads; of everything that must answer whatever those do (I8)
}

func newBounds(conns int) bounds {
	return bounds{
		header: 10 * time.Second, idle: 2 * time.Minute, head: 64 << 10, conns: conns,
		work:  api.IntakeOptions{MaxRequests: conns - streamsOf(conns) - 2*adminConns},
		admin: api.IntakeOptions{MaxRequests: adminConns, MaxBody: 64 << 10, MaxBodies: 8 << 20},
	}
}

// streamsOf is how many of the connections may be streams of events.
func streamsOf(conns int) int { return conns / 4 }

// startAdmin takes the listener. A later incarnation takes the same port again, also where the
// first was free to choose.
func (n *Node) startAdmin(ctx context.Context) (supervisor.Service, error) {
	listen := n.config.Listen
	if a := n.address.Load(); a != nil {
		listen = *a
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("%w; choose another address with --listen or in %s", err, config.FileName)
	}

	addr := l.Addr().String()
	first := n.address.Swap(&addr) == nil
	if err := n.nodeFile(addr).Write(n.home); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if first {
		close(n.up)
	}

	mux := http.NewServeMux()
	work, ask := api.NewIntake(n.bounds.work), api.NewIntake(n.bounds.admin)
	streams, end := context.WithCancel(context.WithoutCancel(ctx)) // they would hold up an orderly stop
	adminPath, adminHandler := api.AdminHandler(hostView{n}, n.token, api.WithMeter(n.meter.Request))
	mux.Handle(adminPath, ask.Handler(adminHandler))
	mux.Handle(apiv1connect.AdminServiceEventsProcedure, api.Streaming(streams, adminHandler))
	mux.Handle("/events", api.Streaming(streams, api.Unread(api.EventsHandler(n.news, ""))))
	snapshotPath, snapshotHandler := api.SnapshotHandler(n.snaps, n.token)
	mux.Handle(snapshotPath, work.Handler(snapshotHandler))
	mux.Handle(apiv1connect.SnapshotServiceBackupProcedure, api.Streaming(streams, snapshotHandler))
	mux.Handle("/metrics", api.Unread(n.meter.Handler()))
	health := api.Unread(api.HealthHandler(hostView{n}))
	mux.Handle("/healthz", health)
	mux.Handle("/readyz", health)
	mux.Handle("/", work.Handler(n.gate))
	n.diagnostics.Info("listening", zap.String("address", addr))
	return &admin{listener: l, end: end, server: &http.Server{
		Handler: n.guarded(mux), TLSConfig: n.tlsConfig(), ReadHeaderTimeout: n.bounds.header,
		IdleTimeout: n.bounds.idle, MaxHeaderBytes: n.bounds.head,
		ConnState: newConns(n.bounds.conns).state,
		ErrorLog:  zap.NewStdLog(n.diagnostics.Named("http")),
	}}, nil
}

// admin is one incarnation of the listener's owner.
type admin struct {
	listener net.Listener
	end      context.CancelFunc // of streams
	server   *http.Server
}

// grace is how long requests inside may take to end when admin is told to stop.
const grace = 500 * time.Millisecond

func (a *admin) Serve(ctx context.Context) error {
	defer a.end()
	defer a.server.Close() // however this incarnation ends, the port is free for the next

	done := make(chan error, 1)
	if err := supervisor.Go(ctx, func(context.Context) error {
		done <- a.serve()
		return nil
	}); err != nil {
		a.listener.Close()
		return err
	}

	faults := supervisor.Faults(ctx)

	for {
		select {
		case err := <-done:
			return fmt.Errorf("http server: %w", err)

		case f := <-faults:
			f.Do(ctx)

		case <-ctx.Done():
			a.end()
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
			defer cancel()
			a.server.Shutdown(late) // past the grace, Close cuts off whoever is inside
			return context.Cause(ctx)
		}
	}
}

func (a *admin) serve() error {
	if a.server.TLSConfig != nil {
		return a.server.ServeTLS(a.listener, "", "")
	}
	return a.server.Serve(a.listener)
}

// String names the service in reports.
func (a *admin) String() string { return "admin on " + a.listener.Addr().String() }
