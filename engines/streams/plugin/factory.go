package plugin

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/plugin/wire"
)

// Kind is the kind of this sink in a definition.
const Kind = "plugin"

// The defaults of a process.
const (
	defaultMemory = 512 << 20
	defaultFiles  = 256
)

// keys are the sink's own keys of a definition.
type keys struct {
	Path   string   `toml:"path"`   // of the program, absolute
	SHA256 string   `toml:"sha256"` // of the program, hexadecimal
	Plugin string   `toml:"plugin"` // the kind that the program must say it is
	Ack    string   `toml:"ack"`    // the least that its acknowledgment must mean; default durable
	Args   []string `toml:"args"`
	Env    []string `toml:"env"`    // names of the node's variables that the program gets
	Memory int64    `toml:"memory"` // bytes; default 512 MiB
	Files  int64    `toml:"files"`  // descriptors; default 256

	Settings map[string]any `toml:"settings"` // the keys of the plugin's own kind
}

// Factory returns the factory of the sink.
func Factory() streams.Factory {
	return streams.Factory{Kind: Kind, Version: "1", Ack: streams.Durable,
		Limits:     streams.Limits{Payload: wire.MaxPayload, Header: 4 << 10},
		Projection: projection, New: newSink}
}

// projection is the plugin's kind and its settings, without those that name secrets.
func projection(d streams.Definition) string {
	k, err := read(d)
	if err != nil {
		return ""
	}
	shown := map[string]any{}
	for name, v := range k.Settings {
		if !strings.HasSuffix(name, "_file") && !strings.HasSuffix(name, "_env") {
			shown[name] = v
		}
	}
	text, err := toml.Marshal(shown)
	if err != nil {
		return ""
	}

	return k.Plugin + "\n" + string(text)
}

func read(d streams.Definition) (keys, error) {
	k := keys{Ack: streams.Durable.String(), Memory: defaultMemory, Files: defaultFiles}
	return k, d.Decode(&k)
}

func newSink(d streams.Definition, _ streams.Secrets) (streams.Sink, error) {
	k, err := read(d)
	if err != nil {
		return nil, err
	}
	sum, err := hex.DecodeString(k.SHA256)
	ack, isLevel := streams.ParseAckLevel(k.Ack)

	switch {
	case !filepath.IsAbs(k.Path):
		return nil, d.Bad("path", fmt.Sprintf("is %.200q, want an absolute path", k.Path))
	case err != nil || len(sum) != 32:
		return nil, d.Bad("sha256", "is not the SHA-256 of a program: want 64 hexadecimal digits, as sha256sum prints")
	case k.Plugin == "":
		return nil, d.Bad("plugin", "is missing: want the kind of the plugin")
	case !isLevel:
		return nil, d.Bad("ack", fmt.Sprintf("is %q, want received, durable or processed", k.Ack))
	case k.Memory < 64<<20:
		return nil, d.Bad("memory", fmt.Sprintf("is %d, want at least %d bytes", k.Memory, 64<<20))
	case k.Files < 32:
		return nil, d.Bad("files", fmt.Sprintf("is %d, want at least 32", k.Files))
	}
	for name := range k.Settings {
		if name == "kind" {
			return nil, d.Bad("settings.kind", "must not be set: the plugin knows its kind")
		}
	}
	settings, err := toml.Marshal(k.Settings)
	if err != nil {
		return nil, d.Bad("settings", "cannot be handed on: "+err.Error())
	}

	s := &sink{keys: k, definition: d, settings: settings, ack: ack, silence: defaultSilence}
	copy(s.sum[:], sum)

	return s, nil
}

// environment returns the variables that the program gets.
func (k keys) environment() (env []string) {
	for _, name := range k.Env {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	// Go programs keep to it by themselves; the limit of the process is behind it.
	return append(env, fmt.Sprintf("GOMEMLIMIT=%d", k.Memory*3/4))
}
