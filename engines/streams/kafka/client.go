package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/coppice-go/coppice/engines/streams"
)

// Bounds of what a client does by itself.
const (
	dialTime        = 10 * time.Second
	requestTime     = 10 * time.Second
	metadataAge     = 50 * time.Millisecond
	transactionTime = 30 * time.Second // an open transaction blocks readers for so long
)

// linger is how long the producer gathers records. A transaction is flushed at its end, so only
// beats and claims wait for it. Without it the first records of a block go alone, and the broker
// syncs each request.
const linger = 5 * time.Millisecond

// client returns a client with more options. It does not connect.
func (s *sink) client(more ...kgo.Opt) (*kgo.Client, error) {
	options := []kgo.Opt{kgo.SeedBrokers(s.keys.Brokers...), kgo.ClientID("coppice-" + s.definition.Name),
		kgo.DialTimeout(dialTime), kgo.RetryTimeout(requestTime), kgo.MetadataMinAge(metadataAge)}

	if k := s.keys; s.wantsTLS() {
		config, err := s.definition.TLS(k.CAFile, k.CertFile, k.KeyFile)
		if err != nil {
			return nil, err
		}
		options = append(options, kgo.DialTLSConfig(config))
	}
	if s.keys.User != "" {
		password, err := s.secrets.Read("password", s.keys.PasswordFile, s.keys.PasswordEnv)
		if err != nil {
			return nil, err
		}
		options = append(options, kgo.SASL(mechanisms[s.keys.Mechanism](s.keys.User, password)))
	}

	client, err := kgo.NewClient(append(options, more...)...)
	if err != nil {
		return nil, streams.Fail(streams.Misconfigured, err)
	}
	return client, nil
}

func (s *sink) wantsTLS() bool {
	return s.keys.TLS || s.keys.CAFile != "" || s.keys.CertFile != ""
}

// mechanisms makes the credentials of SASL by the name in a definition.
var mechanisms = map[string]func(user, password string) sasl.Mechanism{
	"plain": func(user, password string) sasl.Mechanism {
		return plain.Auth{User: user, Pass: password}.AsMechanism()
	},
	"scram-sha-256": func(user, password string) sasl.Mechanism {
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism()
	},
	"scram-sha-512": func(user, password string) sasl.Mechanism {
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism()
	},
}

// classes has the classes of Kafka's errors.
var classes = []struct {
	class  streams.Class
	errors []error
}{
	{streams.Unauthorised, []error{kerr.SaslAuthenticationFailed, kerr.TopicAuthorizationFailed,
		kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed, kerr.GroupAuthorizationFailed}},
	{streams.Misconfigured, []error{kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState, kerr.MessageTooLarge,
		kerr.RecordListTooLarge, kerr.InvalidTopicException, kerr.InvalidReplicationFactor, kerr.InvalidPartitions,
		kerr.InvalidConfig, kerr.PolicyViolation, kerr.UnsupportedVersion, kerr.InvalidTransactionTimeout,
		kerr.InvalidRequiredAcks, kerr.TopicDeletionDisabled}},
	{streams.Full, []error{kerr.KafkaStorageError, kerr.ThrottlingQuotaExceeded}},
}

// classify gives an error of the client its class.
func classify(err error) error {
	if err == nil {
		return nil
	}
	for _, c := range classes {
		for _, e := range c.errors {
			if errors.Is(err, e) {
				return streams.Fail(c.class, err)
			}
		}
	}
	if errors.As(err, new(x509.UnknownAuthorityError)) || errors.As(err, new(x509.HostnameError)) ||
		errors.As(err, new(x509.CertificateInvalidError)) || errors.As(err, new(tls.RecordHeaderError)) {
		return streams.Fail(streams.Misconfigured, err)
	}

	return streams.Fail(streams.Unreachable, err)
}

// isFenced reports whether the broker says that another producer has the transactional id.
func isFenced(err error) bool {
	for _, e := range []error{kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.InvalidProducerIDMapping,
		kerr.InvalidTxnState, kerr.UnknownProducerID, kerr.TransactionalIDNotFound, kerr.OutOfOrderSequenceNumber} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// reach returns an error soon if no broker answers: the client itself would try for long.
func (s *sink) reach(ctx context.Context, client *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	err := client.Ping(ctx)
	var network net.Error
	switch {
	case errors.As(err, &network), errors.Is(err, context.DeadlineExceeded):
		if s.wantsTLS() && ctx.Err() != nil {
			// A broker without TLS takes the handshake for a request, and waits for the rest.
			err = fmt.Errorf("no answer to a TLS handshake; does the broker speak TLS at this address? %w", err)
		}
		return streams.Fail(streams.Unreachable, err)
	}
	return classify(err)
}
