package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coppice-go/coppice/engines/streams"
)

// connectTime bounds a connection attempt.
const connectTime = 10 * time.Second

// connect opens a connection. The connection string is read each time, so a new password counts at
// once.
func (s *sink) connect(ctx context.Context) (*pgx.Conn, error) {
	dsn, err := s.secrets.Read("dsn", s.keys.DSNFile, s.keys.DSNEnv)
	if err != nil {
		return nil, err
	}

	// The error of ParseConfig has parts of the string, which is a secret.
	config, err := pgx.ParseConfig(dsn)
	if file := new(fs.PathError); errors.As(err, &file) {
		return nil, streams.Fail(streams.Misconfigured, fmt.Errorf("a file that the dsn names: %w", file))
	}
	if err != nil {
		return nil, streams.Fail(streams.Misconfigured, errors.New("dsn is no connection string of PostgreSQL: "+
			"want postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full, or key=value pairs"))
	}
	if host := s.plainHost(config); host != "" && !s.keys.Insecure {
		return nil, streams.Fail(streams.Misconfigured, fmt.Errorf("the connection to %s may go without TLS: "+
			"set sslmode=verify-full in the dsn (or insecure = true in the definition)", host))
	}

	// Unnamed statements alone: behind a pooler, each transaction may have another session.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	if config.ConnectTimeout == 0 || config.ConnectTimeout > connectTime {
		config.ConnectTimeout = connectTime
	}

	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, classify(err)
	}
	return conn, nil
}

// plainHost returns a host beyond this machine that config may reach without TLS, or "".
func (s *sink) plainHost(config *pgx.ConnConfig) string {
	if config.TLSConfig == nil && !isLocal(config.Host) {
		return config.Host
	}
	for _, f := range config.Fallbacks {
		if f.TLSConfig == nil && !isLocal(f.Host) {
			return f.Host
		}
	}
	return ""
}

// isLocal reports whether a host is a socket of this machine or its loopback interface.
func isLocal(host string) bool {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// observer returns the connection that Observe uses, under s.observing.
func (s *sink) observer(ctx context.Context) (*pgx.Conn, error) {
	if s.observe != nil && !s.observe.IsClosed() {
		return s.observe, nil
	}
	var err error
	s.observe, err = s.connect(ctx)

	return s.observe, err
}

// closeTime bounds the farewell to a server.
const closeTime = time.Second

// hangUp closes a connection; the server rolls back what is open.
func hangUp(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	_ = conn.Close(ctx) // the server notices the end of the connection in any case
}
