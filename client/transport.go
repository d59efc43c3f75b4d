package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Transport carries the requests of a Client. With TLS it speaks HTTP/2 if the server agrees to it.
// Without TLS, one or two calls at a time are HTTP/1.1, which costs a lone call less. Calls that
// come while these are on their way, and streams, are HTTP/2 with prior knowledge (h2c), so that
// they share a connection. It speaks one protocol only where the server does, such as an old proxy.
// It is safe for concurrent use.
//
// A request that runs out of time ends the use of its HTTP/2 connection for later requests, in case
// the node hangs. The other requests on the connection go on.
type Transport struct {
	// TLS carries the requests to https URLs, and those in HTTP/1.1. Change it before the first
	// request only.
	TLS *http.Transport

	// Lone is how many calls without TLS an address gets in HTTP/1.1 at once; NewTransport sets 2.
	// Change it before the first request only.
	Lone int

	mu    sync.Mutex
	clear *connections    // h2c, the present ones; nil before the first request
	old   []*connections  // h2c, which take no more requests
	http1 map[string]bool // the addresses that speak HTTP/1.1 only

	lone map[string]*loneCalls // by address; nil before the first
}

// connections is a set of connections without TLS.
type connections struct {
	*http.Transport

	// By address, whether there has been a connection: the channel is closed then. The first
	// request makes one, and the others wait for it, because each of them would make another one.
	up map[string]chan struct{} // Transport.mu is held

	newest map[string]*greeted // by address; Transport.mu is held
}

const (
	// oldKept is how many former sets of connections CloseIdleConnections closes. The connections
	// of the sets before end by their idle time.
	oldKept = 16

	// pingAfter and pingWithin find a connection whose node is gone without a word: after pingAfter
	// without a frame it is asked, and it is broken if it does not answer within pingWithin.
	pingAfter, pingWithin = 10 * time.Second, 10 * time.Second

	// greetingWithin is how long a request that failed waits for what the server said first.
	greetingWithin = time.Second
)

// NewTransport returns a Transport that uses no proxy and trusts the certificates that the machine
// trusts.
func NewTransport() *Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 1024 // with HTTP/1.1, each concurrent caller keeps its connection
	t.DisableCompression = true                     // it costs more than it saves on a local network
	t.Proxy = nil
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingWithin}

	return &Transport{TLS: t, Lone: 2, http1: make(map[string]bool)}
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "http" {
		return t.TLS.RoundTrip(r)
	}

	address := r.URL.Host
	if r.URL.Port() == "" {
		address = net.JoinHostPort(r.URL.Hostname(), "80")
	}

	var leave func()
	if t.Lone > 0 && unary(r) {
		leave = t.alone(address)
	}

	if leave != nil {
		res, err := t.roundTripAlone(r, address, leave)
		if !errors.Is(err, errHTTP2) {
			return res, err
		}
		if r = repeat(r); r == nil {
			return nil, err
		}
	}

	via, up, first := t.h2c(address)
	if via == nil {
		return t.TLS.RoundTrip(r)
	}

	if first {
		defer t.connected(via, address, up, false)
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			GotConn: func(httptrace.GotConnInfo) { t.connected(via, address, up, true) },
		}))
	} else if up != nil {
		select {
		case <-up:
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
	}

	res, err := via.RoundTrip(r)
	if err == nil {
		res.Body = &answer{res.Body, r.Context()}
		return res, nil
	}

	if t.refused(r.Context(), via, address) { // the connection, and not the request
		if again := repeat(r); again != nil {
			return t.TLS.RoundTrip(again)
		}
	}
	if errors.Is(r.Context().Err(), context.DeadlineExceeded) {
		t.renew(via)
	}

	return nil, err
}

// refused reports whether the server at an address does not speak HTTP/2, or has ended the newest
// connection without a word. Before an HTTP/2 server takes a request, it sends its SETTINGS, so no
// request on that connection was taken.
func (t *Transport) refused(ctx context.Context, via *connections, address string) bool {
	t.mu.Lock()
	g := via.newest[address]
	t.mu.Unlock()

	if g != nil && ctx.Err() == nil {
		late := time.NewTimer(greetingWithin)
		defer late.Stop()
		select {
		case <-g.settled: // a request that could not be written may fail before the answer is read
		case <-ctx.Done():
		case <-late.C:
		}
	}

	return t.isHTTP1(address) || g != nil && g.silent.Load()
}

// CloseIdleConnections closes the connections that carry no request.
func (t *Transport) CloseIdleConnections() {
	t.TLS.CloseIdleConnections()

	t.mu.Lock()
	defer t.mu.Unlock()

	if t.clear != nil {
		t.clear.CloseIdleConnections()
	}
	for _, o := range t.old {
		o.CloseIdleConnections()
	}
}

// h2c returns the connections for a request to an address, or nil if it is to be made with
// HTTP/1.1. A request that is the first one tells when it has a connection; the others wait until
// up is closed, unless it is nil.
func (t *Transport) h2c(address string) (via *connections, up chan struct{}, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()

	if t.http1[address] {
		return nil, nil, false
	}
	if t.clear == nil {
		t.clear = t.newClear()
	}

	up, begun := t.clear.up[address]
	if !begun {
		up = make(chan struct{})
		t.clear.up[address] = up
	}

	return t.clear, up, !begun
}

// connected ends the wait of the requests to an address: there is a connection, or the first
// request has ended without one, and the next is the first.
func (t *Transport) connected(via *connections, address string, up chan struct{}, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()

	if via.up[address] != up {
		return // it is known
	}

	close(up)
	if via.up[address] = nil; !ok {
		delete(via.up, address)
	}
}

func (t *Transport) isHTTP1(address string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.http1[address]
}

// newClear returns connections that speak HTTP/2 without TLS and nothing else.
func (t *Transport) newClear() *connections {
	c := t.TLS.Clone()
	c.Protocols = new(http.Protocols)
	c.Protocols.SetUnencryptedHTTP2(true)
	all := &connections{c, make(map[string]chan struct{}), make(map[string]*greeted)}

	dial := c.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	c.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}

		g := &greeted{Conn: conn, settled: make(chan struct{}), http1: func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.http1[address] = true
		}}
		t.mu.Lock()
		defer t.mu.Unlock()
		all.newest[address] = g
		return g, nil
	}

	return all
}

// renew makes later requests use new connections, if used is the present set.
func (t *Transport) renew(used *connections) {
	t.mu.Lock()
	defer t.mu.Unlock()

	if t.clear != used {
		return
	}

	t.clear = nil
	t.old = append(t.old, used)
	if len(t.old) > oldKept {
		t.old = t.old[1:]
	}

	for _, o := range t.old {
		o.CloseIdleConnections()
	}
}

// repeat returns a copy of r that can be sent, or nil if the body of r cannot be read again.
func repeat(r *http.Request) *http.Request {
	if r.Body == nil || r.Body == http.NoBody {
		return r
	}
	if r.GetBody == nil {
		return nil
	}

	body, err := r.GetBody()
	if err != nil {
		return nil
	}

	again := r.Clone(r.Context())
	again.Body = body

	return again
}

// answer is the body of an HTTP/2 answer. If the connection ends before the answer, the error of a
// Read is io.ErrUnexpectedEOF, as it is with HTTP/1.1.
type answer struct {
	io.ReadCloser
	ctx context.Context // of the request
}

// Read implements io.Reader. It leaves the reset of the request alone as it is: that has a meaning.
func (a *answer) Read(b []byte) (int, error) {
	n, err := a.ReadCloser.Read(b)
	if err == nil || err == io.EOF || a.ctx.Err() != nil || strings.HasPrefix(err.Error(), "stream error: ") {
		return n, err
	}
	return n, fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
}

// errHTTP1: the server does not speak HTTP/2 without TLS.
var errHTTP1 = errors.New("the server answers with HTTP/1.1")

// greeted is a connection on which HTTP/2 is spoken with prior knowledge. Its first read tells
// whether the server understands that.
type greeted struct {
	net.Conn
	http1   func()        // called if it does not
	settled chan struct{} // closed after the first read, or by Close if there is none
	once    sync.Once     // closes settled
	silent  atomic.Bool   // it ended before anybody heard anything from the server
	reading atomic.Bool   // the first read has begun
	heard   bool          // only the transport's reader uses it
}

// Read implements net.Conn. The first bytes of an HTTP/2 server are a SETTINGS frame, whose length
// has three bytes. No such frame is as long as "HTT" says.
func (g *greeted) Read(b []byte) (int, error) {
	if !g.heard {
		g.reading.Store(true)
	}

	n, err := g.Conn.Read(b)
	if g.heard || n == 0 && err == nil {
		return n, err
	}

	g.heard = true
	defer g.settle()

	if n == 0 {
		g.silent.Store(true)
		return n, err
	}
	if n >= 3 && string(b[:3]) == "HTT" {
		g.http1()
		return 0, errHTTP1
	}

	return n, err
}

// Close implements net.Conn.
func (g *greeted) Close() error {
	err := g.Conn.Close()
	if !g.reading.Load() {
		g.silent.Store(true)
		g.settle()
	}
	return err
}

func (g *greeted) settle() { g.once.Do(func() { close(g.settled) }) }
