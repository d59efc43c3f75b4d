package nats

import (
	"context"
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/coppice-go/coppice/engines/streams"
)

// connectTime bounds a connection attempt.
const connectTime = 10 * time.Second

// connection is a connection, which is never made again by itself: after a break only Open knows
// where the stream stands.
type connection struct {
	nc *nats.Conn
	js jetstream.JetStream
}

func (s *sink) connect(ctx context.Context) (*connection, error) {
	options, err := s.options()
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		options = append(options, nats.Timeout(min(connectTime, max(time.Until(deadline), time.Millisecond))))
	}

	nc, err := nats.Connect(s.keys.URL, options...)
	if err != nil {
		return nil, classify(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, classify(err)
	}

	return &connection{nc: nc, js: js}, nil
}

func (c *connection) close() {
	if c != nil {
		c.nc.Close()
	}
}

func (s *sink) options() ([]nats.Option, error) {
	options := []nats.Option{nats.Name("coppice " + s.definition.Name), nats.NoReconnect(), nats.Timeout(connectTime),
		nats.PingInterval(5 * time.Second), nats.MaxPingsOutstanding(2)}

	k := s.keys
	switch {
	case k.CredsFile != "":
		options = append(options, nats.UserCredentials(s.definition.Path(k.CredsFile)))
	case k.User != "":
		password, err := s.secrets.Read("password", k.PasswordFile, k.PasswordEnv)
		if err != nil {
			return nil, err
		}
		options = append(options, nats.UserInfo(k.User, password))
	case k.TokenFile != "" || k.TokenEnv != "":
		token, err := s.secrets.Read("token", k.TokenFile, k.TokenEnv)
		if err != nil {
			return nil, err
		}
		options = append(options, nats.Token(token))
	}

	if strings.Contains(k.URL, "tls://") || k.CAFile != "" || k.CertFile != "" {
		config, err := s.definition.TLS(k.CAFile, k.CertFile, k.KeyFile)
		if err != nil {
			return nil, err
		}
		options = append(options, nats.Secure(config))
	}

	return options, nil
}

// codes has the classes of JetStream's error codes.
var codes = map[jetstream.ErrorCode]streams.Class{
	10002: streams.Full,          // resource limits exceeded for account
	10023: streams.Full,          // insufficient resources
	10028: streams.Full,          // account: maximum of messages, bytes
	10047: streams.Full,          // insufficient storage
	10077: streams.Full,          // the store failed: its disk, or a limit of the stream
	10054: streams.Misconfigured, // message too large for the stream
	10059: streams.Misconfigured, // no such stream
	10076: streams.Misconfigured, // JetStream is off
	10039: streams.Misconfigured, // JetStream is off for the account
	10174: streams.Misconfigured, // atomic publish is off
	10199: streams.Misconfigured, // the batch is too large
	10058: streams.Misconfigured, // the name is in use with another configuration
	10065: streams.Misconfigured, // the subjects overlap with those of another stream
	10109: streams.Misconfigured, // the stream is sealed
}

// classify gives an error of the client its class.
func classify(err error) error {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &api):
		if class, known := codes[api.ErrorCode]; known {
			return streams.Fail(class, err)
		}
		return streams.Fail(streams.Unreachable, err)
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired),
		errors.Is(err, nats.ErrAuthRevoked), errors.Is(err, nats.ErrPermissionViolation),
		errors.Is(err, nats.ErrAccountAuthExpired):
		return streams.Fail(streams.Unauthorised, err)
	case errors.Is(err, os.ErrNotExist), errors.As(err, new(x509.UnknownAuthorityError)),
		errors.As(err, new(x509.HostnameError)), errors.As(err, new(x509.CertificateInvalidError)),
		errors.Is(err, nats.ErrSecureConnRequired), errors.Is(err, nats.ErrSecureConnWanted):
		return streams.Fail(streams.Misconfigured, err)
	}
	return streams.Fail(streams.Unreachable, err)
}
