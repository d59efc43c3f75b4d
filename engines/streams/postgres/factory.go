package postgres

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/coppice-go/coppice/engines/streams"
)

// Kind is the kind of this sink in a definition.
const Kind = "postgres"

// The units that share a transaction while a sink catches up hold at most so many events and bytes.
const (
	maxRows  = 5000
	maxBytes = 8 << 20
)

// keys are the sink's own keys of a definition.
type keys struct {
	DSNFile           string `toml:"dsn_file"` // the connection string, a secret
	DSNEnv            string `toml:"dsn_env"`
	Schema            string `toml:"schema"`             // default: the slot's name
	SynchronousCommit string `toml:"synchronous_commit"` // on (default), remote_apply
	Insecure          bool   `toml:"insecure"`           // allow a server elsewhere without TLS
}

// Factory returns the factory of the sink.
func Factory() streams.Factory {
	return streams.Factory{Kind: Kind, Version: "1", Ack: streams.Durable, New: newSink}
}

func newSink(d streams.Definition, secrets streams.Secrets) (streams.Sink, error) {
	k := keys{Schema: d.Name, SynchronousCommit: "on"}
	if err := d.Decode(&k); err != nil {
		return nil, err
	}

	switch {
	case k.Schema == "" || len(k.Schema) > 63 || strings.ContainsRune(k.Schema, 0):
		return nil, d.Bad("schema", fmt.Sprintf("is %.80q, want a name of at most 63 bytes", k.Schema))
	case strings.HasPrefix(k.Schema, "pg_") || k.Schema == "information_schema":
		return nil, d.Bad("schema", fmt.Sprintf("is %q, which belongs to PostgreSQL", k.Schema))
	case k.SynchronousCommit != "on" && k.SynchronousCommit != "remote_apply":
		return nil, d.Bad("synchronous_commit", fmt.Sprintf("is %q, want on or remote_apply", k.SynchronousCommit))
	case (k.DSNFile == "") == (k.DSNEnv == ""):
		return nil, streams.Fail(streams.Misconfigured, errors.New("want one of dsn_file and dsn_env: the "+
			"connection string, as postgres://USER:PASSWORD@HOST/DATABASE"))
	}

	return &sink{keys: k, secrets: secrets, schema: pgx.Identifier{k.Schema}.Sanitize()}, nil
}
