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

	blockTime atomic.Int64 // the latest that a Status has shown, in Unix nanoseconds

	mu  sync.Mutex
	cur *services // for the address that was resolved last
}

// services holds the services at one address.
type services struct {
	base     string
	node     apiv1connect.NodeServiceClient
	admin    apiv1connect.AdminServiceClient
	snapshot apiv1connect.SnapshotServiceClient
}

// Option changes how a Client behaves.
type Option func(*Client)

// WithToken sends the token as "authorization: Bearer <token>". Kill requires the admin token; a
// listener beyond loopback requires a token for every call.
func WithToken(token string) Option { return func(c *Client) { c.token = token } }

// WithHTTPClient makes the client use h, for TLS or for another transport. CloseIdle then closes
// the connections of h.
func WithHTTPClient(h *http.Client) Option { return func(c *Client) { c.http = h } }

// WithResolver makes the client call resolve for the node's address before each attempt, because a
// node may listen elsewhere after a restart. An error of resolve counts as a node that is down.
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

	for _, o := range opts {
		o(c)
	}

	if c.http == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 1024 // each concurrent caller keeps its connection
		t.DisableCompression = true
		t.Proxy = nil
		c.http = &http.Client{Transport: t}
	}

	return c
}

// CloseIdle closes the connections that are not in use.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// services returns the services at the current address.
func (c *Client) services() (*services, error) {
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

	if c.cur == nil || c.cur.base != base {
		opts := []connect.ClientOption{
			connect.WithAcceptCompression("gzip", nil, nil), // costs more than it saves on a local network
			connect.WithInterceptors(connect.UnaryInterceptorFunc(c.authorize)),
		}
		c.cur = &services{
			base:     base,
			node:     apiv1connect.NewNodeServiceClient(c.http, base, opts...),
			admin:    apiv1connect.NewAdminServiceClient(c.http, base, opts...),
			snapshot: apiv1connect.NewSnapshotServiceClient(c.http, base, opts...),
		}
	}

	return c.cur, nil
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
func once[Q, R any](ctx context.Context, c *Client, limit time.Duration, req *Q,
	call func(*services, context.Context, *connect.Request[Q]) (*connect.Response[R], error)) (*R, error) {
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

// again makes attempts until one returns an answer, or an error that another attempt cannot mend.
// If ctx ends first, the error names both that and the error of the last attempt.
func again[Q, R any](ctx context.Context, c *Client, limit time.Duration, req *Q,
	call func(*services, context.Context, *connect.Request[Q]) (*connect.Response[R], error)) (*R, error) {
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
