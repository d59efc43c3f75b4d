package client_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
)

// roundTrip calls h and returns its answer. It returns early if the request's context ends.
func roundTrip(h http.Handler, r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	in := r.Clone(r.Context())
	in.Body = io.NopCloser(bytes.NewReader(body))
	w := httptest.NewRecorder()
	done := make(chan struct{})
	go func() { defer close(done); h.ServeHTTP(w, in) }()

	select {
	case <-done:
		return w.Result(), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// serveWith serves h with the given protocols, and returns the URL and the connections so far.
func serveWith(t *testing.T, h http.HandlerFunc, set func(*http.Protocols)) (url string, conns func() int) {
	t.Helper()
	var mu sync.Mutex
	n := 0
	srv := httptest.NewUnstartedServer(h)
	srv.Config.Protocols = new(http.Protocols)
	set(srv.Config.Protocols)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			mu.Lock()
			defer mu.Unlock()
			n++
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)

	return srv.URL, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

func http2(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }
func both(p *http.Protocols)  { p.SetHTTP1(true); p.SetUnencryptedHTTP2(true) }
func http1(p *http.Protocols) { p.SetHTTP1(true) }

// shared returns a client whose requests are all HTTP/2 without TLS.
func shared(t *testing.T) *http.Client {
	t.Helper()
	c := httpClient(t)
	c.Transport.(*client.Transport).Lone = 0
	return c
}

// protocol answers with the protocol of the request, and echo with its body too.
func protocol(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	io.WriteString(w, r.Proto+" "+string(body))
}

// secondIsRight posts a body that cannot be read again. The first attempt ends with an error.
func secondIsRight(t *testing.T, c *http.Client, url string) {
	t.Helper()
	for i := range 2 {
		res, err := c.Post(url, "application/proto", io.MultiReader(strings.NewReader("once")))
		if i == 0 {
			require.Error(t, err)
			continue
		}
		require.NoError(t, err)
		res.Body.Close()
	}
}

func httpClient(t *testing.T) *http.Client {
	t.Helper()
	c := &http.Client{Transport: client.NewTransport()}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func post(t *testing.T, c *http.Client, url, body string) string {
	t.Helper()
	res, err := c.Post(url, "application/proto", strings.NewReader(body))
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(text)
}

// A lone request is HTTP/1.1. Those that come beside two others share one HTTP/2 connection.
func TestRequestsShareAConnection(t *testing.T) {
	const at = 20
	var inside sync.WaitGroup
	url, conns := serveWith(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/together" {
			inside.Done()
			inside.Wait() // all are inside at once
		}
		io.WriteString(w, r.Proto)
	}, both)
	c := httpClient(t)

	for range 3 {
		require.Equal(t, "HTTP/1.1", post(t, c, url, ""))

		inside.Add(at)
		var all sync.WaitGroup
		spoke := make(chan string, at)
		for range at {
			all.Go(func() {
				res, err := c.Post(url+"/together", "application/proto", nil)
				if err != nil {
					spoke <- err.Error()
					return
				}
				defer res.Body.Close()
				text, _ := io.ReadAll(res.Body)
				spoke <- string(text)
			})
		}
		all.Wait()
		close(spoke)

		count := map[string]int{}
		for s := range spoke {
			count[s]++
		}
		require.Equal(t, map[string]int{"HTTP/1.1": 2, "HTTP/2.0": at - 2}, count)
		require.Equal(t, 3, conns())
	}
}

// A server that answers an HTTP/1.1 request in HTTP/2 has not taken it: it is repeated in HTTP/2,
// and all later ones are HTTP/2.
func TestAServerWithoutHTTP1IsSpokenToInHTTP2(t *testing.T) {
	url, _ := serveWith(t, echo, http2)

	settings := []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}
	once := func() *http.Client {
		dialled := 0
		tr := client.NewTransport()
		t.Cleanup(tr.CloseIdleConnections)
		tr.TLS.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if dialled++; dialled > 1 {
				return new(net.Dialer).DialContext(ctx, network, address)
			}
			here, there := net.Pipe()
			go func() { // a server that begins with its SETTINGS, as some do
				defer there.Close()
				there.Read(make([]byte, 1<<10))
				there.Write(settings)
			}()
			return here, nil
		}
		return &http.Client{Transport: tr}
	}

	c := once()
	for range 3 {
		require.Equal(t, "HTTP/2.0 hello", post(t, c, url, "hello"))
	}

	// A body that cannot be read again ends the first attempt. The next one is right.
	c = once()
	secondIsRight(t, c, url)

	// Others end the connection without a word: that could be any failure, so the request fails.
	c = httpClient(t)
	_, err := c.Post(url, "application/proto", strings.NewReader("hello"))
	require.Error(t, err)
	require.Equal(t, "HTTP/2.0 hello", post(t, c, url, "hello"))
}

// A server that ends the connection without an answer may have taken the request: it is not sent
// again. The next one is HTTP/2, in case that is all that the server knows.
func TestALoneRequestIsNotSentTwice(t *testing.T) {
	var taken atomic.Int32
	url, _ := serveWith(t, func(w http.ResponseWriter, r *http.Request) {
		if taken.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, r.Proto)
	}, both)
	c := httpClient(t)

	_, err := c.Post(url, "application/proto", strings.NewReader("hello"))
	require.Error(t, err)
	require.EqualValues(t, 1, taken.Load())
	require.Equal(t, "HTTP/2.0", post(t, c, url, "hello"))

	// After an answer in HTTP/1.1, a failure says nothing about the protocol.
	c = httpClient(t)
	require.Equal(t, "HTTP/1.1", post(t, c, url, "hello"))
	taken.Store(0)
	_, err = c.Post(url, "application/proto", strings.NewReader("hello"))
	require.Error(t, err)
	require.Equal(t, "HTTP/1.1", post(t, c, url, "hello"))
}

// Whatever a server answers that is no SETTINGS of HTTP/2, it may have taken the request.
func TestNonsenseIsNoSignOfHTTP2(t *testing.T) {
	for _, answers := range []int{0, 1} { // before the nonsense
		var taken atomic.Int32
		url, _ := serveWith(t, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			if taken.Add(1); r.URL.Path == "/nonsense" {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err == nil {
					io.WriteString(conn, "500 Internal Server Error\r\n\r\n")
					conn.Close()
				}
			}
		}, both)
		c := httpClient(t)
		for range answers {
			post(t, c, url, "")
		}
		_, err := c.Post(url+"/nonsense", "application/proto", strings.NewReader("hello"))
		require.Error(t, err)
		require.EqualValues(t, answers+1, taken.Load())
	}
}

// An address that changes from both protocols to HTTP/2 alone costs two failed requests.
func TestAnAddressMayBecomeHTTP2Only(t *testing.T) {
	serve := func(address string, set func(*http.Protocols)) (at string, end func()) {
		l, err := net.Listen("tcp", address)
		require.NoError(t, err)
		srv := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(
			protocol)}
		set(srv.Protocols)
		ended := make(chan error, 1)
		go func() { ended <- srv.Serve(l) }()
		return l.Addr().String(), func() {
			require.NoError(t, srv.Close())
			require.ErrorIs(t, <-ended, http.ErrServerClosed)
		}
	}

	address, end := serve("127.0.0.1:0", both)
	c := httpClient(t)
	require.Equal(t, "HTTP/1.1", post(t, c, "http://"+address, ""))
	end()
	c.CloseIdleConnections()

	_, end = serve(address, http2)
	defer end()
	for range 2 {
		_, err := c.Post("http://"+address, "application/proto", nil)
		require.Error(t, err)
	}
	require.Equal(t, "HTTP/2.0", post(t, c, "http://"+address, ""))
}

// A stream is HTTP/2, also alone: only its pings find out that the other end is gone without a
// word.
func TestAStreamFindsOutThatTheOtherEndIsGone(t *testing.T) {
	for _, kind := range []string{"application/connect+proto", "application/grpc", "text/event-stream"} {
		url, _ := serveWith(t, protocol, both)
		res, err := httpClient(t).Post(url, kind, nil)
		require.NoError(t, err)
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, "HTTP/2.0", string(text), kind)
	}
}

// A caller that reads an answer to its end and does not close it takes no place for ever.
func TestAnAnswerThatIsReadIsOver(t *testing.T) {
	url, _ := serveWith(t, protocol, both)
	c := httpClient(t)
	for range 5 {
		res, err := c.Post(url, "application/proto", nil) //nolint:bodyclose // the point of the test
		require.NoError(t, err)
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, "HTTP/1.1", string(text))
	}
}

// A server that is not there yet is no server without HTTP/1.1.
func TestAServerThatIsDownMayKnowHTTP1(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	c := httpClient(t)
	_, err = c.Post("http://"+address, "application/proto", nil)
	require.Error(t, err)

	l, err = net.Listen("tcp", address)
	require.NoError(t, err)
	srv := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(
		protocol)}
	both(srv.Protocols)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	require.Equal(t, "HTTP/1.1", post(t, c, "http://"+address, ""))
	require.NoError(t, srv.Close())
	require.ErrorIs(t, <-ended, http.ErrServerClosed)
}

// A server that knows only HTTP/1.1 is spoken to in HTTP/1.1, and the first request to it is
// repeated and not lost.
func TestAnOldServerIsSpokenToInHTTP1(t *testing.T) {
	url, conns := serveWith(t, echo, http1)
	c := shared(t)

	for range 3 {
		require.Equal(t, "HTTP/1.1 hello", post(t, c, url, "hello"))
	}
	require.Equal(t, 2, conns(), "one for the question, one for the answers")

	// A body that cannot be read again ends the first attempt. The next one is right.
	c = shared(t)
	secondIsRight(t, c, url)
}

// torn is a connection whose second write fails before anybody has read what the server said: a
// read returns when the connection has been given up.
type torn struct {
	net.Conn
	writes  int
	once    sync.Once
	givenUp chan struct{}
}

func (c *torn) Write(b []byte) (int, error) {
	if c.writes++; c.writes == 1 {
		return c.Conn.Write(b)
	}
	return 0, syscall.EPIPE
}

func (c *torn) Read(b []byte) (int, error) {
	<-c.givenUp
	return copy(b, "HTTP/1.1 400 Bad Request\r\n\r\n"), nil
}

func (c *torn) Close() error {
	c.once.Do(func() { close(c.givenUp) })
	return c.Conn.Close()
}

// An old server ends the connection at once. A request whose write fails for it is repeated too,
// and so is one on a connection that ended before the server said anything.
func TestARefusedConnectionIsNoRefusedRequest(t *testing.T) {
	url, _ := serveWith(t, echo, http1)

	for name, first := range map[string]func(net.Conn) net.Conn{
		"the write fails":        func(c net.Conn) net.Conn { return &torn{Conn: c, givenUp: make(chan struct{})} },
		"it ends without a word": func(c net.Conn) net.Conn { c.Close(); return c },
	} {
		dialled := 0
		tr := client.NewTransport()
		tr.Lone = 0
		tr.TLS.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			if dialled++; err == nil && dialled == 1 {
				c = first(c)
			}
			return c, err
		}
		require.Equal(t, "HTTP/1.1 hello", post(t, &http.Client{Transport: tr}, url, "hello"), name)
		tr.CloseIdleConnections()
	}
}

// A request that runs out of time may have met a node that hangs: later requests use another
// connection, and those that are on their way go on.
func TestAfterAnAttemptThatTookTooLongTheConnectionIsNew(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{}, 2)
	url, conns := serveWith(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			arrived <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		io.WriteString(w, "answer")
	}, both)
	c := shared(t)

	other := make(chan string, 1)
	go func() {
		res, err := c.Get(url + "/hang")
		if err != nil {
			other <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		other <- string(b)
	}()
	<-arrived

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/hang", nil)
	require.NoError(t, err)
	_, err = c.Do(r)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, 1, conns())

	require.Equal(t, "answer", post(t, c, url, ""))
	require.Equal(t, 2, conns())
	close(release)
	require.Equal(t, "answer", <-other)
}

// The end of the connection in the middle of an answer is an unexpected end, as with HTTP/1.1, so
// that Follow and Events begin again.
func TestAConnectionThatEndsIsAnUnexpectedEnd(t *testing.T) {
	t.Run("lone", func(t *testing.T) { unexpectedEnd(t, httpClient(t)) })
	t.Run("shared", func(t *testing.T) { unexpectedEnd(t, shared(t)) })
}

func unexpectedEnd(t *testing.T, c *http.Client) {
	t.Helper()
	var conn net.Conn
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "part")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	srv.Config.Protocols = new(http.Protocols)
	both(srv.Config.Protocols)
	srv.Config.ConnState = func(c net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conn = c
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)

	res, err := c.Post(srv.URL, "application/proto", nil)
	require.NoError(t, err)
	defer res.Body.Close()
	b := make([]byte, 4)
	_, err = io.ReadFull(res.Body, b)
	require.NoError(t, err)
	conn.Close()
	_, err = res.Body.Read(b)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}
