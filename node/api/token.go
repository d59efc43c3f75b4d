package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"

	"connectrpc.com/connect"
)

// authorize checks the header "authorization: Bearer <token>" in constant time. An empty token lets
// no request through.
func authorize(h http.Header, token string) error {
	scheme, got, _ := strings.Cut(h.Get("Authorization"), " ")
	if got == "" || !strings.EqualFold(scheme, "Bearer") {
		return connect.NewError(connect.CodeUnauthenticated,
			errors.New("authorization: want the header \"authorization: Bearer <token>\" (the token is in the file "+
				"admin.token of the node's home)"))
	}

	g, w := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(g[:], w[:]) != 1 || token == "" {
		return connect.NewError(connect.CodePermissionDenied, errors.New("authorization: this is not the node's token"))
	}

	return nil
}

// wantToken is the interceptor of a service whose calls all require the token.
type wantToken string

func (t wantToken) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if err := authorize(req.Header(), string(t)); err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
}

func (t wantToken) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		if err := authorize(conn.RequestHeader(), string(t)); err != nil {
			return err
		}
		return next(ctx, conn)
	}
}

func (t wantToken) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next // the interceptor is for servers
}
