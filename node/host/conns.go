package host

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// conns limits the number of connections that the listener holds. When there is one too many, it
// closes the connection that has been without a request for longest. A connection has a request
// once the request's head is complete. So thousands of idle connections keep no client out, and the
// admin service always answers (invariant I8 in docs/architecture.md). api.Intake limits the
// connections that have a request to a lower number. conns is safe for concurrent use.
type conns struct {
	max int

	mu      sync.Mutex
	waiting *list.List                 // of net.Conn without a request, the longest-waiting first
	all     map[net.Conn]*list.Element // nil for a connection with a request
	closed  int                        // connections that were closed to make room
}

func newConns(max int) *conns {
	return &conns{max: max, waiting: list.New(), all: make(map[net.Conn]*list.Element)}
}

// state is the ConnState function of the http.Server.
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
	default: // closed; nothing here hijacks a connection
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
		oldest.Close() // the goroutine that serves it then ends
	}
}
