package kafka

import (
	"fmt"
	"net"
	"strings"

	"github.com/coppice-go/coppice/engines/streams"
)

// Kind is the kind of this sink in a definition.
const Kind = "kafka"

// The units that share a transaction hold at most so many events and bytes, or are one unit.
const (
	maxRecords = 5000
	maxBytes   = 8 << 20
)

// keys are the sink's own keys of a definition.
type keys struct {
	Brokers    []string `toml:"brokers"`    // HOST:PORT
	Topic      string   `toml:"topic"`      // default: coppice-SLOT
	Partitions int32    `toml:"partitions"` // default 1
	Replicas   int16    `toml:"replicas"`   // of a topic that the sink makes; default: the broker's
	Separator  string   `toml:"separator"`  // ends the prefix of a key that chooses its partition; default /
	Format     string   `toml:"format"`     // json (default), protobuf

	User         string `toml:"user"`
	PasswordFile string `toml:"password_file"`
	PasswordEnv  string `toml:"password_env"`
	Mechanism    string `toml:"mechanism"` // plain (default), scram-sha-256, scram-sha-512

	TLS      bool   `toml:"tls"`
	CAFile   string `toml:"ca_file"`
	CertFile string `toml:"cert_file"`
	KeyFile  string `toml:"key_file"`
	Insecure bool   `toml:"insecure"` // allow a broker elsewhere without TLS
}

func defaults(d streams.Definition) keys {
	return keys{Topic: "coppice-" + d.Name, Partitions: 1, Replicas: -1, Separator: "/", Format: "json",
		Mechanism: "plain"}
}

// Factory returns the factory of the sink.
func Factory() streams.Factory {
	return streams.Factory{Kind: Kind, Version: "1", Ack: streams.Durable, New: newSink,
		Limits: streams.Limits{Header: 4 << 10},
		Projection: func(d streams.Definition) string {
			k := defaults(d)
			if d.Decode(&k) != nil {
				return ""
			}
			return fmt.Sprintf("%s %d %q", k.Format, k.Partitions, k.Separator)
		}}
}

func newSink(d streams.Definition, secrets streams.Secrets) (streams.Sink, error) {
	k := defaults(d)
	if err := d.Decode(&k); err != nil {
		return nil, err
	}

	switch {
	case len(k.Brokers) == 0:
		return nil, d.Bad("brokers", `is missing, want a list as ["HOST:PORT"]`)
	case k.Topic == "" || len(k.Topic) > 249 || strings.Trim(k.Topic, nameCharacters) != "":
		return nil, d.Bad("topic", fmt.Sprintf("is %.80q, want letters, digits, '.', '_' and '-', at most 249",
			k.Topic))
	case k.Partitions < 1 || k.Partitions > 1000:
		return nil, d.Bad("partitions", fmt.Sprintf("is %d, want 1 to 1000", k.Partitions))
	case k.Format != "json" && k.Format != "protobuf":
		return nil, d.Bad("format", fmt.Sprintf("is %q, want json or protobuf", k.Format))
	case mechanisms[k.Mechanism] == nil:
		return nil, d.Bad("mechanism", fmt.Sprintf("is %q, want plain, scram-sha-256 or scram-sha-512", k.Mechanism))
	}

	for _, broker := range k.Brokers {
		host, _, err := net.SplitHostPort(broker)
		if err != nil {
			return nil, d.Bad("brokers", "has an element that is not HOST:PORT")
		}
		if !k.TLS && k.CAFile == "" && !k.Insecure && !isLocal(host) {
			return nil, d.Bad("brokers", fmt.Sprintf("reaches %s without TLS: want tls = true, or insecure = true",
				broker))
		}
	}

	return &sink{keys: k, secrets: secrets, definition: d, topic: k.Topic}, nil
}

const nameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// isLocal reports whether a host is the loopback interface.
func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
