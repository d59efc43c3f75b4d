package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// Client talks to one node. New makes it.
type Client struct {
	resolve  func() (string, error)
	http     *http.Client
	token    string
	attempt  time.Duration
	min, max time.Duration
	joiner   joiner

	blockTime atomic.Int64 // the latest that a Status has shown, in Unix nanoseconds

	mu  sync.Mutex
	cur atomic.Pointer[services] // for the address that was resolved last; mu is held to change it
}

// services holds the services at one address.
type services struct {
	base     string
	node     apiv1connect.NodeServiceClient
	admin    apiv1connect.AdminServiceClient
	snapshot apiv1connect.SnapshotServiceClient
	streams  apiv1connect.StreamsServiceClient

	http   *http.Client
	failed atomic.Bool // a request did not get through: the node may be elsewhere now
}

// Do implements connect.HTTPClient.
func (s *services) Do(r *http.Request) (*http.Response, error) {
	res, err := s.http.Do(r)
	if err != nil {
		s.failed.Store(true)
	}
	return res, err
}

// Option changes how a Client behaves.
type Option func(*Client)

// WithToken sends the token as "authorization: Bearer <token>". Kill requires the admin token; a
// listener beyond loopback requires a token for every call.
func WithToken(token string) Option { return func(c *Client) { c.token = token } }

// WithHTTPClient makes the client use h, for TLS or for another transport. CloseIdle then closes
// the connections of h.
func WithHTTPClient(h *http.Client) Option { return func(c *Client) { c.http = h } }

// WithResolver makes the client call resolve for the node's address before the first attempt, and
// again after an attempt that did not get through, because a node may listen elsewhere after a
// restart. An error of resolve counts as a node that is down.
func WithResolver(resolve func() (string, error)) Option {
	return func(c *Client) { c.resolve = resolve }
}

// WithAttemptTimeout limits one attempt, by default to 5 s. After that, the client asks again on a
// new connection, in case the node hangs. An attempt that waits for a result takes up to twice as
// long.
func WithAttemptTimeout(d time.Duration) Option { return func(c *Client) { c.attempt = d } }

// WithBackoff sets the pause between attempts. The pause doubles from min to max, by default from 5
// ms to 250 ms. Each actual pause is random, between half of that and all of it.
func WithBackoff(min, max time.Duration) Option {
	return func(c *Client) { c.min, c.max = min, max }
}

// New returns a client of the node at address: host:port, or a URL for a path or TLS. It does not
// connect yet.
func New(address string, opts ...Option) *Client {
	c := &Client{
		resolve: func() (string, error) { return address, nil },
		attempt: 5 * time.Second, min: 5 * time.Millisecond, max: 250 * time.Millisecond,
	}

	c.joiner.c = c

	for _, o := range opts {
		o(c)
	}

	if c.http == nil {
		c.http = &http.Client{Transport: NewTransport()}
	}

	return c
}

// CloseIdle closes the connections that are not in use.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// services returns the services at the current address.
func (c *Client) services() (*services, error) {
	if s := c.cur.Load(); s != nil && !s.failed.Load() {
		return s, nil
	}

	address, err := c.resolve()
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, fmt.Errorf("%w: %w", errNoAddress, err))
	}
	base := strings.TrimSuffix(address, "/")
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	s := c.cur.Load()
	if s != nil && s.base == base {
		s.failed.Store(false)
		return s, nil
	}

	opts := []connect.ClientOption{
		connect.WithAcceptCompression("gzip", nil, nil), // costs more than it saves on a local network
		connect.WithInterceptors(connect.UnaryInterceptorFunc(c.authorize)),
	}
	s = &services{base: base, http: c.http}
	s.node = apiv1connect.NewNodeServiceClient(s, base, opts...)
	s.admin = apiv1connect.NewAdminServiceClient(s, base, opts...)
	s.snapshot = apiv1connect.NewSnapshotServiceClient(s, base, opts...)
	s.streams = apiv1connect.NewStreamsServiceClient(s, base, opts...)
	c.cur.Store(s)

	return s, nil
}

func (c *Client) authorize(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		c.sign(req.Header())
		return next(ctx, req)
	}
}

func (c *Client) sign(h http.Header) {
	if c.token != "" {
		h.Set("Authorization", "Bearer "+c.token)
	}
}

// once makes one attempt, which takes at most limit.
func once[Q, R any](ctx context.Context, c *Client, limit time.Duration, req *Q, call method[Q, R]) (*R, error) {
	s, err := c.services()
	if err != nil {
		return nil, err
	}

	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	res, err := call(s, ctx, connect.NewRequest(req))
	if err != nil {
		return nil, err
	}

	return res.Msg, nil
}

// method is a method of one of the services.
type method[Q, R any] = func(*services, context.Context, *connect.Request[Q]) (*connect.Response[R], error)

// admin returns a method of the admin service, for once and again.
func admin[Q, R any](call func(apiv1connect.AdminServiceClient, context.Context, *connect.Request[Q]) (
	*connect.Response[R], error)) method[Q, R] {
	return func(s *services, ctx context.Context, r *connect.Request[Q]) (*connect.Response[R], error) {
		return call(s.admin, ctx, r)
	}
}

// node returns a method of the node service, for once and again.
func node[Q, R any](call func(apiv1connect.NodeServiceClient, context.Context, *connect.Request[Q]) (
	*connect.Response[R], error)) method[Q, R] {
	return func(s *services, ctx context.Context, r *connect.Request[Q]) (*connect.Response[R], error) {
		return call(s.node, ctx, r)
	}
}

// again makes attempts until one returns an answer, or an error that another attempt cannot mend.
// If ctx ends first, the error names both that and the error of the last attempt.
func again[Q, R any](ctx context.Context, c *Client, limit time.Duration, req *Q, call method[Q, R]) (*R, error) {
	b := c.backoff()
	for {
		res, err := once(ctx, c, limit, req, call)
		if err != nil && ctx.Err() != nil {
			return nil, fmt.Errorf("%w; the last attempt: %w", context.Cause(ctx), err)
		}
		if !lost(ctx, err) {
			return res, err
		}
		if ended := b.pause(ctx); ended != nil {
			return nil, fmt.Errorf("%w; the last attempt: %w", ended, err)
		}
	}
}

func (c *Client) backoff() *backoff { return &backoff{next: c.min, max: c.max} }

// backoff computes the pauses of one call.
type backoff struct{ next, max time.Duration }

// pause waits for a random time between half of b.next and all of it, and doubles b.next up to
// b.max. If ctx ends first, it returns ctx's cause.
func (b *backoff) pause(ctx context.Context) error {
	d := b.next/2 + rand.N(b.next/2+1)
	b.next = min(2*b.next, b.max)
	t := time.NewTimer(d)
	defer t.Stop()

	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
