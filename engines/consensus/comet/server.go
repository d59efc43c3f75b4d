package comet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/consensus/comet/wire"
	"github.com/coppice-go/coppice/supervisor"
)

// maxConns bounds the connections of one endpoint. CometBFT has four.
const maxConns = 16

// server is one incarnation of the ABCI server. It has an endpoint for the running child, and no
// endpoint before the first child.
type server struct {
	app   *app
	dir   string // of the sockets, private
	limit int    // of a frame
	log   *zap.Logger

	release func() // releases the directory

	ctx context.Context // of the incarnation: another child opens the endpoints

	mu  sync.Mutex
	now *endpoint
	n   int
}

// Serve keeps the endpoint open until ctx ends.
func (s *server) Serve(ctx context.Context) error {
	defer s.release()
	defer s.close()

	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f := <-supervisor.Faults(ctx):
			f.Do(ctx)
		}
	}
}

// String names the service in reports.
func (s *server) String() string { return "abci server" }

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeNow()
}

// closeNow closes the endpoint of the running child, if there is one. It is called with s.mu held.
func (s *server) closeNow() {
	if s.now != nil && s.app.mistake != oldChildServed {
		s.now.close()
		s.now = nil
	}
}

// open makes the endpoint of a new child and returns the path of its socket. It first closes the
// previous endpoint and waits until the requests there have ended. Therefore no request of an old
// child can take effect after a new child has learned our height.
func (s *server) open() (path string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.closeNow()
	s.n++
	path = filepath.Join(s.dir, fmt.Sprintf("abci-%d-%d.sock", supervisor.Incarnation(s.ctx), s.n))
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("stale socket: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(s.ctx, "unix", path)
	if err != nil {
		return "", err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return "", errors.Join(err, l.Close())
	}

	ctx, cancel := context.WithCancelCause(s.ctx)
	e := &endpoint{server: s, ctx: ctx, cancel: cancel, listener: l, conns: make(map[net.Conn]struct{})}
	e.running.Add(1)

	if err := supervisor.Go(s.ctx, func(context.Context) error {
		defer e.running.Done()
		return e.accept()
	}); err != nil {
		e.running.Done()
		return "", errors.Join(err, l.Close())
	}

	s.now = e

	return path, nil
}

// endpoint is a socket with the connections of the one child that knows its path.
type endpoint struct {
	server   *server
	ctx      context.Context // of the requests
	cancel   context.CancelCauseFunc
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

// errReplaced ends the requests of a child that was replaced.
var errReplaced = errors.New("the child that asked was replaced")

func (e *endpoint) close() {
	e.cancel(errReplaced)
	e.mu.Lock()
	e.closed = true
	for c := range e.conns {
		c.Close()
	}
	e.mu.Unlock()

	e.listener.Close() // removes the socket
	e.running.Wait()
}

func (e *endpoint) accept() error {
	for {
		c, err := e.listener.Accept()
		if err != nil {
			if e.ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accepting ABCI connections: %w", err)
		}

		if why := e.admit(c); why != "" {
			e.server.log.Warn("ABCI connection refused", zap.String("reason", why))
			c.Close()
		}
	}
}

func (e *endpoint) admit(c net.Conn) (refused string) {
	e.mu.Lock()
	defer e.mu.Unlock()

	switch {
	case e.closed:
		return "the endpoint is closed"
	case len(e.conns) == maxConns:
		return fmt.Sprintf("there are %d already", maxConns)
	}

	e.running.Add(1)

	err := supervisor.Go(e.server.ctx, func(context.Context) error {
		defer e.running.Done()
		e.serve(c)
		return nil
	})
	if err != nil {
		e.running.Done()
		return err.Error()
	}

	e.conns[c] = struct{}{}

	return ""
}

// serve answers one connection until it ends. An error ends only this connection. A panic of a
// handler ends the incarnation of the server.
func (e *endpoint) serve(c net.Conn) {
	defer func() {
		e.mu.Lock()
		delete(e.conns, c)
		e.mu.Unlock()
		c.Close()
	}()

	err := e.converse(c)

	switch {
	case e.ctx.Err() != nil: // we ended it
	case errors.Is(err, io.EOF):
		e.server.log.Debug("ABCI connection closed by the peer")
	default:
		e.server.log.Warn("ABCI connection closed", zap.Error(err))
	}
}

func (e *endpoint) converse(c net.Conn) error {
	r, w := bufio.NewReaderSize(c, 64<<10), bufio.NewWriterSize(c, 64<<10)
	conn := conversation{app: e.server.app}
	var buf []byte

	for {
		req, b, err := wire.ReadRequest(r, e.server.limit, buf)
		if err != nil {
			return err
		}
		if buf = b; cap(buf) > wire.ReadStep {
			buf = nil // a large block is rare enough to let its memory go
		}
		resp, err := conn.answer(e.ctx, req)
		if err != nil {
			return fmt.Errorf("%T: %w", req.Value, err)
		}
		if err := wire.WriteResponse(w, resp); err != nil {
			return err
		}

		if r.Buffered() == 0 { // a client that pipelines gets its answers together
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
}
