package testnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/coppice-go/coppice/supervisor"
)

// link carries the connections that one node makes to another, and can be cut. While it is cut,
// bytes do not arrive and neither side gets an error, as on a real network. When the link is
// healed, the bytes arrive.
type link struct {
	from, to int
	api      bool         // to the API of the node, not to its CometBFT
	listener net.Listener // for the whole run: restarts of the child keep the port
	target   string
	gate     gate
}

func (l *link) id() string {
	if l.api {
		return fmt.Sprintf("api-link-%d-%d", l.from, l.to)
	}
	return fmt.Sprintf("link-%d-%d", l.from, l.to)
}

// start starts an incarnation.
func (l *link) start(context.Context) (supervisor.Service, error) {
	return supervisor.ServiceFunc(l.serve), nil
}

func (l *link) serve(ctx context.Context) error {
	accepted := make(chan net.Conn)
	if err := supervisor.Go(ctx, func(ctx context.Context) error {
		for {
			c, err := l.listener.Accept()
			if ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
				return nil // serve has closed it
			}
			if err != nil {
				return fmt.Errorf("%s: %w", l.id(), err)
			}

			select {
			case accepted <- c:
			case <-ctx.Done():
				c.Close()
				return nil
			}
		}
	}); err != nil {
		return err
	}

	for {
		select {
		case <-ctx.Done():
			l.listener.Close()
			return context.Cause(ctx)

		case f := <-supervisor.Faults(ctx):
			f.Do(ctx)

		case c := <-accepted:
			if err := supervisor.Go(ctx, func(ctx context.Context) error { l.carry(ctx, c); return nil }); err != nil {
				c.Close()
			}
		}
	}
}

// carry opens a connection to the target, and copies bytes between it and in until one of the two
// ends.
func (l *link) carry(ctx context.Context, in net.Conn) {
	defer in.Close()

	if l.gate.wait(ctx) != nil {
		return
	}
	out, err := new(net.Dialer).DialContext(ctx, "tcp", l.target)
	if err != nil {
		return // the target is down; the end of in shows that to the peer
	}
	defer out.Close()

	ctx, end := context.WithCancel(ctx)
	defer end()
	defer context.AfterFunc(ctx, func() { in.Close(); out.Close() })()

	var both sync.WaitGroup

	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		both.Go(func() {
			defer end()
			l.copy(ctx, way[1], way[0])
		})
	}

	both.Wait()
}

// copy copies bytes from one connection to the other, and waits while the gate is shut.
func (l *link) copy(ctx context.Context, to io.Writer, from io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if l.gate.wait(ctx) != nil {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}

		if err != nil {
			return
		}
	}
}

// gate makes callers of wait wait while it is shut. The zero gate is open.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // closed when the gate opens; nil while it is open
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()

	switch {
	case shut && g.shut == nil:
		g.shut = make(chan struct{})
	case !shut && g.shut != nil:
		close(g.shut)
		g.shut = nil
	}
}

func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()

	if shut == nil {
		return nil
	}

	select {
	case <-shut:
		return g.wait(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
