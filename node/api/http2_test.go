package api_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/node/api"
)

// pipes is a listener without a network, for a bubble.
type pipes struct {
	conns chan net.Conn
	made  int
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.conns) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// overHTTP2 calls test with a client that has one HTTP/2 connection to the handler that made
// returns, in a bubble.
func overHTTP2(t *testing.T, made func() http.Handler, test func(t *testing.T, c *http.Client, p *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		h2 := new(http.Protocols)
		h2.SetUnencryptedHTTP2(true)
		p := &pipes{conns: make(chan net.Conn)}
		srv := &http.Server{Handler: made(), Protocols: h2, WriteTimeout: api.AnswerTime}
		done := make(chan struct{})
		go func() { defer close(done); srv.Serve(p) }()

		tr := &http.Transport{Protocols: h2, DialContext: func(context.Context, string, string) (net.Conn, error) {
			mine, theirs := net.Pipe()
			p.made++
			p.conns <- theirs
			return mine, nil
		}}
		test(t, &http.Client{Transport: tr}, p)

		tr.CloseIdleConnections()
		srv.Close()
		<-done
	})
}

// With HTTP/2, a deadline that passes ends the stream even if nothing is being written. A stream on
// which nothing happens for long goes on.
func TestAQuietStreamGoesOnOverHTTP2(t *testing.T) {
	h := api.Streaming(context.Background(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, part := range []string{"one ", "two ", "three"} {
			<-time.After(time.Hour)
			io.WriteString(w, part)
			w.(http.Flusher).Flush()
		}
		<-time.After(time.Hour)
	}))
	overHTTP2(t, func() http.Handler { return h }, func(t *testing.T, c *http.Client, _ *pipes) {
		res, err := c.Get("http://node/")
		require.NoError(t, err)
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, "one two three", string(text))
	})
}

// A client that keeps its HTTP/2 connection and does not read its stream is cut off. The other
// streams of the connection go on.
func TestAClientThatDoesNotReadIsCutOffOverHTTP2(t *testing.T) {
	var ended chan error
	mux := http.NewServeMux()
	mux.HandleFunc("/quick", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "answer") })
	mux.Handle("/", api.Streaming(context.Background(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				ended <- err
				return
			}
		}
	})))
	made := func() http.Handler {
		ended = make(chan error, 1)
		return mux
	}
	overHTTP2(t, made, func(t *testing.T, c *http.Client, p *pipes) {
		res, err := c.Get("http://node/")
		require.NoError(t, err)
		defer res.Body.Close()
		require.Error(t, <-ended)

		res, err = c.Get("http://node/quick")
		require.NoError(t, err)
		defer res.Body.Close()
		require.Equal(t, 1, p.made)
	})
}

// A body that comes too slowly over HTTP/2 is refused in time, without the end of the connection:
// its other requests are answered.
func TestASlowBodyIsRefusedOverHTTP2(t *testing.T) {
	h := api.NewIntake(api.IntakeOptions{}).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Write(b)
	}))
	overHTTP2(t, func() http.Handler { return h }, func(t *testing.T, c *http.Client, p *pipes) {
		body, feed := io.Pipe()
		defer feed.Close()
		go feed.Write([]byte("x"))

		slow := make(chan string, 1)
		go func() {
			res, err := c.Post("http://node/", "text/plain", body)
			if err != nil {
				slow <- err.Error()
				return
			}
			defer res.Body.Close()
			b, _ := io.ReadAll(res.Body)
			slow <- string(b)
		}()
		synctest.Wait()

		quick := func() {
			res, err := c.Post("http://node/", "text/plain", bytes.NewReader(make([]byte, 200<<10)))
			require.NoError(t, err)
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			require.Len(t, b, 200<<10)
		}
		quick()
		require.Contains(t, <-slow, "body: got 1 bytes within 10s, want at least 65536 per second after the first 10s")
		quick()
		require.Equal(t, 1, p.made)
	})
}

// A long body that comes fast enough is taken, however long it takes, and its answer is sent: the
// time of the answer counts from the end of the body.
func TestALongBodyHasItsTimeOverHTTP2(t *testing.T) {
	h := api.NewIntake(api.IntakeOptions{}).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		<-time.After(time.Minute)
		io.WriteString(w, http.StatusText(http.StatusOK))
	}))
	overHTTP2(t, func() http.Handler { return h }, func(t *testing.T, c *http.Client, _ *pipes) {
		body, feed := io.Pipe()
		go func() {
			defer feed.Close()
			for range 600 { // ten minutes
				feed.Write(make([]byte, 70<<10))
				<-time.After(time.Second)
			}
		}()
		res, err := c.Post("http://node/", "text/plain", body)
		require.NoError(t, err)
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, "OK", string(b))
	})
}

// The number of requests that an Intake counts does not depend on the number of connections.
func TestRequestsOfOneConnectionAreCounted(t *testing.T) {
	var inside, release chan struct{}
	h := api.NewIntake(api.IntakeOptions{MaxRequests: 2}).Count(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			inside <- struct{}{}
			<-release
		}))
	made := func() http.Handler {
		inside, release = make(chan struct{}, 9), make(chan struct{})
		return h
	}
	overHTTP2(t, made, func(t *testing.T, c *http.Client, p *pipes) {
		codes := make(chan int, 2)
		for range 2 {
			go func() {
				res, err := c.Get("http://node/")
				if err != nil {
					t.Error(err)
					return
				}
				res.Body.Close()
				codes <- res.StatusCode
			}()
			<-inside
		}

		res, err := c.Get("http://node/")
		require.NoError(t, err)
		defer res.Body.Close()
		require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
		require.Equal(t, "1", res.Header.Get("Retry-After"))
		close(release)
		require.Equal(t, []int{200, 200}, []int{<-codes, <-codes})
		require.Equal(t, 1, p.made)
	})
}
