package postgres

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/coppice-go/coppice/engines/streams"
)

// classes has the classes of SQLSTATEs, by their longest prefix. What is not here is Misconfigured:
// the statements are ours, so the server differs from what they expect.
var classes = []struct {
	prefix string
	class  streams.Class
}{
	{"08", streams.Unreachable},    // connection exception
	{"22", streams.RejectedEvent},  // data exception
	{"23", streams.RejectedEvent},  // integrity constraint
	{"25006", streams.Unreachable}, // read-only: a standby, or a server that is being switched over
	{"25P03", streams.Unreachable}, // idle in transaction: this process was stopped
	{"28", streams.Unauthorised},
	{"40", streams.Unreachable}, // rolled back: serialization, deadlock
	{"42501", streams.Unauthorised},
	{"53100", streams.Full},
	{"53", streams.Unreachable}, // memory, connections
	{"55", streams.Unreachable}, // locks
	{"57", streams.Unreachable}, // cancelled, shut down, starting
	{"58030", streams.Full},     // I/O error: what the server says when a quota ends a write
	{"58", streams.Unreachable},
	{"XX", streams.Unreachable}, // internal, damaged
}

// classify gives an error of the server or of the connection its class.
func classify(err error) error {
	var pg *pgconn.PgError
	var parse *pgconn.ParseConfigError
	var network net.Error

	switch {
	case err == nil:
		return nil

	case errors.As(err, &pg):
		class := streams.Misconfigured
		for _, c := range classes {
			if strings.HasPrefix(pg.Code, c.prefix) {
				class = c.class
				break
			}
		}
		return streams.Fail(class, err)

	case errors.As(err, &parse):
		return streams.Fail(streams.Misconfigured, err)

	case errors.As(err, new(x509.UnknownAuthorityError)), errors.As(err, new(x509.HostnameError)),
		errors.As(err, new(x509.CertificateInvalidError)),
		strings.Contains(err.Error(), "server refused TLS connection"): // the client has no type for it
		return streams.Fail(streams.Misconfigured, err)

	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, new(*pgconn.ConnectError)), pgconn.SafeToRetry(err), pgconn.Timeout(err):
		return streams.Fail(streams.Unreachable, err)
	}

	return streams.Fail(streams.Unreachable, err)
}
