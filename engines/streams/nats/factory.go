package nats

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/coppice-go/coppice/engines/streams"
)

// Kind is the kind of this sink in a definition.
const Kind = "nats"

// A batch has at most so many messages, the limit of a server's defaults, and bytes.
const (
	maxBatch      = 1000
	maxBatchBytes = 4 << 20
)

// keys are the sink's own keys of a definition.
type keys struct {
	URL     string `toml:"url"`     // nats://HOST:PORT or tls://HOST:PORT; several with commas
	Stream  string `toml:"stream"`  // default: coppice-SLOT
	Subject string `toml:"subject"` // before the kind; default: coppice.SLOT

	Format     string `toml:"format"`      // json (default), protobuf
	Atomic     string `toml:"atomic"`      // auto (default), never
	Batch      int    `toml:"batch"`       // messages of a batch; default 1000
	Replicas   int    `toml:"replicas"`    // of a stream that the sink makes; default 1
	SyncAlways bool   `toml:"sync_always"` // the server syncs before it acknowledges

	CredsFile    string `toml:"creds_file"` // credentials as nsc writes them
	User         string `toml:"user"`
	PasswordFile string `toml:"password_file"`
	PasswordEnv  string `toml:"password_env"`
	TokenFile    string `toml:"token_file"`
	TokenEnv     string `toml:"token_env"`

	CAFile   string `toml:"ca_file"`   // of TLS, if the system's are not right
	CertFile string `toml:"cert_file"` // of this client
	KeyFile  string `toml:"key_file"`
	Insecure bool   `toml:"insecure"` // allow a server elsewhere without TLS
}

// Factory returns the factory of the sink.
func Factory() streams.Factory {
	return streams.Factory{Kind: Kind, Version: "1", Ack: streams.Received, New: newSink,
		Limits: streams.Limits{Header: 4 << 10},
		AckOf: func(d streams.Definition) streams.AckLevel {
			var k keys
			if d.Decode(&k) == nil && k.SyncAlways {
				return streams.Durable
			}
			return streams.Received
		},
		Projection: func(d streams.Definition) string {
			var k keys
			if d.Decode(&k) != nil || k.Format == "" {
				return "json"
			}
			return k.Format
		}}
}

func newSink(d streams.Definition, secrets streams.Secrets) (streams.Sink, error) {
	k := keys{Stream: "coppice-" + d.Name, Subject: "coppice." + d.Name, Format: "json", Atomic: "auto",
		Batch: maxBatch, Replicas: 1}
	if err := d.Decode(&k); err != nil {
		return nil, err
	}

	switch {
	case k.Stream == "" || strings.ContainsAny(k.Stream, " .*>/\\\t\r\n"):
		return nil, d.Bad("stream", fmt.Sprintf("is %.80q, want a name without space, '.', '*', '>' and slashes",
			k.Stream))
	case k.Subject == "" || strings.ContainsAny(k.Subject, " *>\t\r\n") || strings.Contains("."+k.Subject+".", ".."):
		return nil, d.Bad("subject", fmt.Sprintf("is %.80q, want a subject without wildcards", k.Subject))
	case k.Format != "json" && k.Format != "protobuf":
		return nil, d.Bad("format", fmt.Sprintf("is %q, want json or protobuf", k.Format))
	case k.Atomic != "auto" && k.Atomic != "never":
		return nil, d.Bad("atomic", fmt.Sprintf("is %q, want auto or never", k.Atomic))
	case k.Batch < 1 || k.Batch > 1<<20:
		return nil, d.Bad("batch", fmt.Sprintf("is %d, want 1 to the server's max_batch_size", k.Batch))
	case k.Replicas < 1 || k.Replicas > 5:
		return nil, d.Bad("replicas", fmt.Sprintf("is %d, want 1 to 5", k.Replicas))
	}
	if err := checkURL(d, k); err != nil {
		return nil, err
	}

	return &sink{keys: k, secrets: secrets, definition: d}, nil
}

// checkURL returns an error unless each server's address is one, has no secret in it, and is
// reached by TLS or lies on this machine.
func checkURL(d streams.Definition, k keys) error {
	if k.URL == "" {
		return d.Bad("url", "is missing, want nats://HOST:PORT or tls://HOST:PORT")
	}

	for _, one := range strings.Split(k.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		switch {
		case err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls":
			return d.Bad("url", "has an element that is no address: want nats://HOST:PORT or tls://HOST:PORT")
		case u.User != nil:
			return d.Bad("url", "has a user or a password: give user and password_file, token_file or creds_file")
		case u.Scheme != "tls" && k.CAFile == "" && !k.Insecure && !isLocal(u.Hostname()):
			return d.Bad("url", fmt.Sprintf("reaches %s without TLS: want tls://, or insecure = true", u.Host))
		}
	}

	return nil
}

// isLocal reports whether a host is the loopback interface.
func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
