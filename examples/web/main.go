// Command web supervises an HTTP server and a worker. The server stops in order when its supervisor
// tells it to, and /metrics has the figures of the tree for Prometheus.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/treemetrics"
)

// drainTime is how long requests under way may take when the server stops.
const drainTime = 5 * time.Second

// httpServer returns a child that serves HTTP at an address. Its start fails if the address is in
// use, so the supervisor knows at once. listening is told the address of each incarnation.
func httpServer(addr string, handler http.Handler, listening func(net.Addr)) supervisor.Child {
	return supervisor.Child{
		ID:       "http",
		Shutdown: drainTime + time.Second, // or it would become an orphan while it drains
		Start: func(ctx context.Context) (supervisor.Service, error) {
			l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
			if err != nil {
				return nil, err
			}
			listening(l.Addr())

			server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
			return supervisor.ServiceFunc(func(ctx context.Context) error { return serve(ctx, server, l) }), nil
		},
	}
}

// serve serves until ctx ends, and then waits for the requests under way.
func serve(ctx context.Context, server *http.Server, l net.Listener) error {
	drained := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		drained <- server.Shutdown(within)
	})

	err := server.Serve(l)
	if !errors.Is(err, http.ErrServerClosed) || stop() {
		return err // it failed, or somebody else closed it: the supervisor starts another one
	}

	// Shutdown makes Serve return at once with http.ErrServerClosed. That is a normal end, and what
	// counts is whether the requests under way have ended.
	if err := <-drained; err != nil {
		return errors.Join(err, server.Close())
	}

	return ctx.Err()
}

// newTree returns a tree with the server and a worker.
func newTree(addr string, listening func(net.Addr)) (*supervisor.Supervisor, error) {
	figures := &treemetrics.Metrics{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })

	tree, err := supervisor.New(supervisor.Spec{
		Name:      "web",
		Intensity: supervisor.Intensity{Max: 5, Period: time.Minute},
		Observers: []supervisor.Observer{figures},
		Build: supervisor.Children(
			supervisor.Child{ID: "worker", Start: supervisor.Start(func(ctx context.Context) error {
				<-ctx.Done() // its work
				return ctx.Err()
			})},
			httpServer(addr, mux, listening),
		),
	})
	if err != nil {
		return nil, err
	}

	mux.Handle("GET /metrics", treemetrics.Handler(figures, tree.Tree))

	return tree, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	tree, err := newTree("127.0.0.1:8080", func(a net.Addr) { fmt.Printf("listening on http://%s\n", a) })
	if err == nil {
		err = tree.Serve(ctx)
	}

	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
