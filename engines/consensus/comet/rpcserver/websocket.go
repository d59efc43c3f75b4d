package rpcserver

import (
	"bufio"
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"sync"
)

const websocketPath = "/websocket"

// websocket serves a connection of a websocket. CometBFT queues the answers to its calls. Each call
// therefore holds its share of the budget until as many bytes have been sent as its answer has at
// least, or the connection ends.
func (h bounded) websocket(w http.ResponseWriter, r *http.Request) {
	h.next.ServeHTTP(&hijacker{w, h.limits}, r)
}

// hijacker hands the connection of a websocket over as a metered one.
type hijacker struct {
	http.ResponseWriter
	limits *limits
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	inner, ok := h.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("this connection cannot become a websocket")
	}
	c, rw, err := inner.Hijack()
	if err != nil {
		return nil, nil, err
	}

	m := &metered{Conn: c, limits: h.limits}
	h.limits.meters.Store(c.RemoteAddr().String(), m) // all that a call knows of its connection

	return m, rw, nil
}

// metered is a connection with the shares of the calls whose answers wait to be sent over it.
type metered struct {
	net.Conn
	limits *limits

	mu     sync.Mutex
	sent   int64
	owed   []*debt // in the order of the calls
	closed bool
}

// debt is a share that is given back when the connection has sent a number of bytes.
type debt struct{ at, held int64 }

// Write implements net.Conn.
func (m *metered) Write(b []byte) (int, error) {
	n, err := m.Conn.Write(b)
	m.mu.Lock()
	defer m.mu.Unlock()

	m.sent += int64(n)
	for len(m.owed) > 0 && m.owed[0].at <= m.sent {
		m.limits.budget.give(m.owed[0].held)
		m.owed = m.owed[1:]
	}

	return n, err
}

// Close implements net.Conn.
func (m *metered) Close() error {
	m.limits.meters.CompareAndDelete(m.RemoteAddr().String(), m)
	m.mu.Lock()
	for _, d := range m.owed {
		m.limits.budget.give(d.held)
	}
	m.owed, m.closed = nil, true
	m.mu.Unlock()

	return m.Conn.Close()
}

// take takes n bytes of the budget for an answer. A connection makes one answer at a time.
func (m *metered) take(ctx context.Context, n int64) (settle func(size int64), err error) {
	taken, err := m.limits.budget.take(ctx, n)
	if err != nil {
		return nil, err
	}

	m.mu.Lock()
	defer m.mu.Unlock()

	if m.closed {
		m.limits.budget.give(taken)
		return nil, net.ErrClosed
	}

	before := m.sent
	if len(m.owed) > 0 {
		before = max(before, m.owed[len(m.owed)-1].at)
	}

	d := &debt{at: math.MaxInt64, held: taken}
	m.owed = append(m.owed, d)

	return func(size int64) {
		m.mu.Lock()
		defer m.mu.Unlock()
		d.at = before + max(size, 1)
	}, nil
}
