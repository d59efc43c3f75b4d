package host

import (
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// A client that connects while all connections have a request is not closed unheard: it waits until
// one of them has had its answer (I8).
func TestANewConnectionWaitsForThoseWithARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConns(2)
		ends := make([]net.Conn, 3)
		for i := range ends {
			mine, theirs := net.Pipe()
			defer theirs.Close()
			ends[i] = mine
		}
		for _, conn := range ends[:2] {
			c.state(conn, http.StateNew)
			c.state(conn, http.StateActive)
		}

		accepted := make(chan struct{})
		go func() { defer close(accepted); c.state(ends[2], http.StateNew) }()
		synctest.Wait()
		select {
		case <-accepted:
			t.Fatal("accepted without room")
		default:
		}

		c.state(ends[0], http.StateIdle)
		<-accepted
		_, err := ends[0].Write([]byte("x"))
		require.ErrorIs(t, err, io.ErrClosedPipe, "the one that was without a request for longest")

		c.state(ends[2], http.StateActive)
		require.NoError(t, ends[2].Close())
		require.Len(t, c.all, 2)
		require.Equal(t, 1, c.closed)
	})
}
