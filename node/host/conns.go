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
// requests that are served to a lower number. If all connections have a request, some of them are
// being refused, and the next connection is accepted when one has had its answer: closing the new
// one would keep out a client that has done nothing yet. conns is safe for concurrent use.
type conns struct {
	max int

	mu      sync.Mutex
	room    sync.Cond                  // a connection has ended, or has no request any more
	waiting *list.List                 // of net.Conn without a request, the longest-waiting first
	all     map[net.Conn]*list.Element // nil for a connection with a request
	closed  int                        // connections that were closed to make room
}

func newConns(max int) *conns {
	c := &conns{max: max, waiting: list.New(), all: make(map[net.Conn]*list.Element)}
	c.room.L = &c.mu
	return c
}

// state is the ConnState function of the http.Server, which calls it for a new connection before it
// accepts the next one.
func (c *conns) state(conn net.Conn, s http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if e := c.all[conn]; e != nil {
		c.waiting.Remove(e)
	}

	switch s {
	case http.StateNew:
		c.makeRoom()
		c.all[conn] = c.waiting.PushBack(conn)
	case http.StateIdle:
		c.all[conn] = c.waiting.PushBack(conn)
		c.room.Broadcast()
	case http.StateActive:
		c.all[conn] = nil
	default: // closed; nothing here hijacks a connection
		delete(c.all, conn)
		c.room.Broadcast()
	}
}

// makeRoom returns when there is room for one more connection. The caller holds c.mu.
func (c *conns) makeRoom() {
	for len(c.all) >= c.max {
		first := c.waiting.Front()
		if first == nil {
			c.room.Wait()
			continue
		}

		oldest := first.Value.(net.Conn)
		c.waiting.Remove(first)
		delete(c.all, oldest)
		c.closed++

		c.mu.Unlock() // the end of a TLS connection may take time
		oldest.Close()
		c.mu.Lock()
	}
}
