package host

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// conns bounds how many connections the listener holds. Where one more comes it closes the one that
// has been without a request for longest, or that never finished the head of its first: so
// thousands that do nothing keep nobody out, and admin always answers (I8). Those with a request
// are the intake's to bound, below this bound. Safe for concurrent use.
type conns struct {
	max int

	mu      sync.Mutex
	waiting *list.List // of net.Conn without a request, the longest first
	all     map[net.Conn]*list.Element
	closed  int // for room
}

func newConns(max int) *conns {
	return &conns{max: max, waiting: list.New(), all: make(map[net.Conn]*list.Element)}
}

// state is an http.Server's ConnState.
func (c *conns) state(conn net.Conn, s http.ConnState) {
	c.mu.Lock()
	if e := c.all[conn]; e != nil {
		c.waiting.Remove(e)
	}

	switch s {
	case http.StateNew, http.StateIdle:
		c.all[conn] = c.waiting.PushBack(conn)
	case http.StateActive:
		c.all[conn] = nil
	default: // closed, or hijacked, which nothing here does
		delete(c.all, conn)
	}

	var oldest net.Conn

	if first := c.waiting.Front(); len(c.all) > c.max && first != nil {
		oldest = first.Value.(net.Conn)
		c.waiting.Remove(first)
		delete(c.all, oldest)
		c.closed++
	}

	c.mu.Unlock()

	if oldest != nil {
		oldest.Close() // its own goroutine meets it, and ends
	}
}
