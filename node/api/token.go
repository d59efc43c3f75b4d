package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
)

// Token is a secret that allows its holder to call the node.
type Token struct {
	Access  Access
	Secret  string
	Expires time.Time // of a token that was replaced; zero: never
}

func (t Token) expired() bool { return !t.Expires.IsZero() && !time.Now().Before(t.Expires) }

// Tokens returns the tokens that the node knows now, those that have expired included. It is called
// for each request, is safe for concurrent use, and returns at once. A nil Tokens knows none.
type Tokens func() []Token

// Fixed returns Tokens that never change. A token without a secret is left out.
func Fixed(tokens ...Token) Tokens {
	var known []Token
	for _, t := range tokens {
		if t.Secret != "" {
			known = append(known, t)
		}
	}

	return func() []Token { return known }
}

// bearer returns the token of the header "authorization: Bearer <token>"; empty if there is none.
func bearer(h http.Header) string {
	scheme, got, _ := strings.Cut(h.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return got
}

// holds returns the known token that a request has. It compares in constant time.
func (t Tokens) holds(h http.Header) (held Token, ok bool) {
	got := bearer(h)
	if got == "" || t == nil {
		return held, false
	}

	g := sha256.Sum256([]byte(got))

	for _, known := range t() {
		w := sha256.Sum256([]byte(known.Secret))
		if subtle.ConstantTimeCompare(g[:], w[:]) == 1 && known.Secret != "" && held.Access <= known.Access {
			held, ok = known, true
		}
	}

	return held, ok
}

// where names the file with the least token that allows want.
func (t Tokens) where(want Access) string {
	least := AdminAccess

	if t != nil {
		for _, known := range t() {
			if known.Access >= want && known.Access < least && known.Expires.IsZero() {
				least = known.Access
			}
		}
	}

	return fmt.Sprintf("the token is in the file %s of the node's home; if it is lost, 'coppice token rotate %v' "+
		"makes another", least.File(), least)
}

// authorize checks that a request has a token that allows want. The errors name the file that holds
// such a token.
func (t Tokens) authorize(h http.Header, want Access) error {
	if bearer(h) == "" {
		return connect.NewError(connect.CodeUnauthenticated,
			fmt.Errorf("authorization: want the header \"authorization: Bearer <token>\" (%s)", t.where(want)))
	}

	held, ok := t.holds(h)
	switch {
	case !ok:
		return denied("authorization: this is not the node's token (%s)", t.where(want))

	case held.expired():
		return denied("authorization: this is not the node's token any more: it was replaced, and expired at %s (%s)",
			held.Expires.UTC().Format(time.RFC3339), t.where(want))

	case held.Access < want:
		return denied("authorization: this is the node's %v token, want the %v token (%s)", held.Access, want,
			t.where(want))
	}

	return nil
}

func denied(format string, args ...any) error {
	return connect.NewError(connect.CodePermissionDenied, fmt.Errorf(format, args...))
}

type accessKey struct{}

// withAccess returns a context for a request whose token allows a and nothing above it.
func withAccess(ctx context.Context, a Access) context.Context {
	return context.WithValue(ctx, accessKey{}, a)
}

// mayOrder returns an error if the request of ctx has a token that only allows reading.
func mayOrder(ctx context.Context) error {
	if a, ok := ctx.Value(accessKey{}).(Access); ok && a < SubmitAccess {
		return connect.NewError(connect.CodePermissionDenied, errors.New("consistent: such a read submits a "+
			"transaction, and this is the node's read-only token: want the submit token, or a read that is not "+
			"consistent"))
	}
	return nil
}

// needsAccess is the interceptor of a service whose calls all require a token.
type needsAccess struct {
	tokens Tokens
	want   Access
}

func (n needsAccess) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if err := n.tokens.authorize(req.Header(), n.want); err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
}

func (n needsAccess) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		if err := n.tokens.authorize(conn.RequestHeader(), n.want); err != nil {
			return err
		}
		return next(ctx, conn)
	}
}

func (n needsAccess) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next // the interceptor is for servers
}
