package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// loneCalls is what a Transport knows of the requests that an address gets in HTTP/1.1.
// Transport.mu guards it.
type loneCalls struct {
	now      int  // on their way
	answered bool // the last one has had an answer
	none     bool // the server does not speak HTTP/1.1
}

// unary reports whether r is a call with one message each way. A stream is HTTP/2, because only
// that finds out that the other end of a silent connection is gone.
func unary(r *http.Request) bool {
	kind := r.Header.Get("Content-Type")
	return r.Method == http.MethodPost && (kind == "application/proto" || kind == "application/json")
}

// errHTTP2: the server does not speak HTTP/1.1, so it took no request.
var errHTTP2 = errors.New("the server does not answer in HTTP/1.1")

// alone counts a request as one of the few to an address that are HTTP/1.1, and returns the
// function that ends that. It returns nil if there are enough of them. A lone call in HTTP/2 costs
// half as much again, because each side hands its frames from goroutine to goroutine
// (docs/adr/0230).
func (t *Transport) alone(address string) (leave func()) {
	t.mu.Lock()
	defer t.mu.Unlock()

	calls := t.lone[address]
	if calls == nil {
		calls = new(loneCalls)
		if t.lone == nil {
			t.lone = make(map[string]*loneCalls)
		}
		t.lone[address] = calls
	}
	if calls.none || calls.now >= t.Lone {
		return nil
	}

	calls.now++

	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		calls.now--
	})
}

// roundTripAlone makes a request in HTTP/1.1. The error is errHTTP2 if the server answers with the
// SETTINGS of HTTP/2, unless it has just spoken HTTP/1.1. Any other failure may mean that too, or
// that the server is going down with the request. The request fails, and if it is the first one or
// the second in a row, later ones are HTTP/2.
func (t *Transport) roundTripAlone(r *http.Request, address string, leave func()) (*http.Response, error) {
	res, err := t.TLS.RoundTrip(r)
	if err == nil {
		t.note(address, func(c *loneCalls) { c.answered = true })
		res.Body = &loneBody{res.Body, leave}
		return res, nil
	}

	leave()

	var dial *net.OpError
	if r.Context().Err() != nil || errors.As(err, &dial) && dial.Op == "dial" {
		return nil, err
	}

	var answered bool
	t.note(address, func(c *loneCalls) {
		answered = c.answered
		c.none, c.answered = !answered, false
	})

	// A SETTINGS frame begins with a zero. net/http has no other sign of it than this text.
	if !answered && strings.Contains(err.Error(), `malformed HTTP response "\x00`) {
		return nil, fmt.Errorf("%w: %w", errHTTP2, err)
	}

	return nil, err
}

func (t *Transport) note(address string, change func(*loneCalls)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(t.lone[address])
}

// loneBody is the body of an answer in HTTP/1.1. The request is on its way until the body is read
// to its end or closed.
type loneBody struct {
	io.ReadCloser
	leave func()
}

// Read implements io.Reader.
func (b *loneBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.leave()
	}
	return n, err
}

// Close implements io.Closer.
func (b *loneBody) Close() error {
	defer b.leave()
	return b.ReadCloser.Close()
}
