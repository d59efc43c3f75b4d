package rpcserver

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	cmtlog "github.com/cometbft/cometbft/libs/log"
	cmtpubsub "github.com/cometbft/cometbft/libs/pubsub"
	"github.com/cometbft/cometbft/node"
	rpccore "github.com/cometbft/cometbft/rpc/core"
	grpccore "github.com/cometbft/cometbft/rpc/grpc"
	rpc "github.com/cometbft/cometbft/rpc/jsonrpc/server"
	"github.com/rs/cors"
)

// Options say where the RPC of a node listens.
type Options struct {
	// Public lists the addresses for strangers, in CometBFT's form, separated by commas.
	Public string

	// Private is the path of our own socket.
	Private string

	// Peers returns the connected peers with their validators.
	Peers func() []Peer

	// Copy, if set, answers requests for CopyPath on our own socket.
	Copy http.Handler
}

// CopyPath is the path of a copy of CometBFT's databases, on our own socket alone.
const CopyPath = "/coppice_copy"

// Server is the RPC of a node.
type Server struct{ listeners []io.Closer }

// Serve listens on all addresses, and serves the RPC of n until Close. The settings of the RPC are
// those of c, apart from its addresses. n need not have started.
func Serve(n *node.Node, c *cfg.RPCConfig, o Options, log cmtlog.Logger) (_ *Server, err error) {
	env, err := n.ConfigureRPC()
	if err != nil {
		return nil, err
	}
	env.P2PTransport = network{n}

	s := new(Server)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()

	l := newLimits()
	methods := public(env, l)
	if c.Unsafe {
		env.AddUnsafeRoutes(methods)
	}

	config := serverConfig(c)
	log = log.With("module", "rpc-server")

	for addr := range strings.SplitSeq(o.Public, ",") {
		if addr = strings.TrimSpace(addr); addr == "" {
			continue
		}
		h := handler(env, c, methods, config, log)
		if strings.HasPrefix(addr, "tcp://") { // a unix socket is for users of this machine
			h = bounded{l, h, config}
		}
		if err := s.listen(addr, crossOrigin(c, h), c, config, log); err != nil {
			return nil, err
		}
	}

	own := *config
	own.MaxOpenConnections = 0 // strangers must not be able to lock us out
	ours := withCopy(handler(env, c, private(env, o.Peers), &own, log), o.Copy)
	err = s.listen("unix://"+o.Private, ours, &cfg.RPCConfig{}, &own, log)
	if err != nil {
		return nil, err
	}

	return s, s.grpc(env, c, log)
}

// network is a node as net_info shows it. Its own IsListening reads a field that its start and its
// stop write, and no lock guards it: that was a data race of a request and a stop.
type network struct{ *node.Node }

// IsListening reports whether the node runs. It listens as long as it does.
func (n network) IsListening() bool { return n.IsRunning() }

// serverConfig returns the bounds of the server, as CometBFT's own server has them.
func serverConfig(c *cfg.RPCConfig) *rpc.Config {
	config := rpc.DefaultConfig()
	config.MaxRequestBatchSize = c.MaxRequestBatchSize
	config.MaxBodyBytes, config.MaxHeaderBytes = c.MaxBodyBytes, c.MaxHeaderBytes
	config.MaxOpenConnections = c.MaxOpenConnections
	if config.WriteTimeout <= c.TimeoutBroadcastTxCommit {
		config.WriteTimeout = c.TimeoutBroadcastTxCommit + time.Second
	}
	return config
}

// handler returns CometBFT's handler of methods.
func handler(env *rpccore.Environment, c *cfg.RPCConfig, methods rpccore.RoutesMap, config *rpc.Config,
	log cmtlog.Logger) http.Handler {
	sockets := log.With("protocol", "websocket")
	wm := rpc.NewWebsocketManager(methods,
		rpc.OnDisconnect(func(remote string) {
			err := env.EventBus.UnsubscribeAll(context.Background(), remote)
			if err != nil && !errors.Is(err, cmtpubsub.ErrSubscriptionNotFound) {
				sockets.Error("Failed to unsubscribe addr from events", "addr", remote, "err", err)
			}
		}),
		rpc.ReadLimit(config.MaxBodyBytes),
		rpc.WriteChanCapacity(c.WebSocketWriteBufferSize))
	wm.SetLogger(sockets)

	mux := http.NewServeMux()
	mux.HandleFunc(websocketPath, wm.WebsocketHandler)
	rpc.RegisterRPCFuncs(mux, methods, log)

	return rpc.PreChecksHandler(rpc.RecoverAndLogHandler(mux, log), config)
}

// withCopy returns next with a handler for CopyPath, which gets the connection itself: it has no
// deadline for its answer.
func withCopy(next, copies http.Handler) http.Handler {
	if copies == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == CopyPath {
			copies.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// crossOrigin adds the configured CORS headers.
func crossOrigin(c *cfg.RPCConfig, next http.Handler) http.Handler {
	if !c.IsCorsEnabled() {
		return next
	}
	return cors.New(cors.Options{
		AllowedOrigins: c.CORSAllowedOrigins, AllowedMethods: c.CORSAllowedMethods,
		AllowedHeaders: c.CORSAllowedHeaders,
	}).Handler(next)
}

func (s *Server) listen(addr string, h http.Handler, c *cfg.RPCConfig, config *rpc.Config, log cmtlog.Logger) error {
	l, err := rpc.Listen(addr, config.MaxOpenConnections)
	if err != nil {
		return err
	}
	s.listeners = append(s.listeners, l)

	server := &http.Server{
		Handler: h, ReadTimeout: config.ReadTimeout, ReadHeaderTimeout: config.ReadTimeout,
		WriteTimeout: config.WriteTimeout, MaxHeaderBytes: config.MaxHeaderBytes,
	}
	go func() {
		serve := func() error { return server.Serve(l) }
		if c.IsTLSEnabled() {
			serve = func() error { return server.ServeTLS(l, c.CertFile(), c.KeyFile()) }
		}
		if err := serve(); err != nil && !errors.Is(err, net.ErrClosed) {
			// Programs that watch CometBFT look for this text, which its own server logs at the
			// level of information.
			log.Error("RPC HTTP server stopped", "err", err)
		}
	}()

	return nil
}

// grpc serves CometBFT's deprecated gRPC service, if it is configured.
func (s *Server) grpc(env *rpccore.Environment, c *cfg.RPCConfig, log cmtlog.Logger) error {
	if c.GRPCListenAddress == "" {
		return nil
	}

	l, err := rpc.Listen(c.GRPCListenAddress, c.GRPCMaxOpenConnections)
	if err != nil {
		return err
	}
	s.listeners = append(s.listeners, l)

	go func() {
		//nolint:staticcheck // CometBFT v0.40 has no other service to serve here
		if err := grpccore.StartGRPCServer(env, l); err != nil && !errors.Is(err, net.ErrClosed) {
			log.Error("Error starting gRPC server", "err", err)
		}
	}()

	return nil
}

// Close stops listening.
func (s *Server) Close() error {
	var errs []error
	for _, l := range s.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
