package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// Config is what coppice.toml says. Its zero value is not usable: DefaultConfig is what a file that says nothing means.
type Config struct {
	Profile   Profile         `toml:"profile"`
	Listen    string          `toml:"listen"` // host:port; port 0 takes a free one
	Consensus ConsensusConfig `toml:"consensus"`
	Pool      PoolConfig      `toml:"pool"`
	Log       LogConfig       `toml:"log"`
}

// ConsensusConfig chooses and tunes the driver.
type ConsensusConfig struct {
	Kind       string   `toml:"kind"`        // "solo"
	EmptyEvery Duration `toml:"empty_every"` // a block although there is no work; 0s is never
	MaxTxs     int      `toml:"max_txs"`     // of a block
}

// PoolConfig bounds the mempool.
type PoolConfig struct {
	MaxTxs   int   `toml:"max_txs"`
	MaxBytes int64 `toml:"max_bytes"`
	MaxEager int   `toml:"max_eager"` // workers that execute before their transaction has its place
}

// LogConfig tunes the event log.
type LogConfig struct {
	SegmentBytes int64 `toml:"segment_bytes"`
}

// Duration is a time.Duration written as "1s500ms".
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// MarshalText writes d as time.Duration prints.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// DefaultConfig is the configuration of a file that says nothing.
func DefaultConfig() Config {
	return Config{
		Profile:   Default,
		Listen:    "127.0.0.1:7070",
		Consensus: ConsensusConfig{Kind: "solo", MaxTxs: 5_000},
		Pool:      PoolConfig{MaxTxs: 200_000, MaxBytes: 512 << 20, MaxEager: 2_048},
		Log:       LogConfig{SegmentBytes: 64 << 20},
	}
}

// Load reads the configuration of a home. Every key must be known. Errors are ErrConfig and name the file, the place in it
// and what was expected.
func Load(home string) (Config, error) {
	c := DefaultConfig()
	path := filepath.Join(home, configFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, fmt.Errorf("%w: %s is no home of coppice (%s is missing): make one with 'coppice init'", ErrConfig, home, configFile)
	}
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&c); err != nil {
		return c, fmt.Errorf("%w: %s", ErrConfig, tomlProblem(path, err))
	}
	return c, c.Validate()
}

// tomlProblem says where in the file the problem is.
func tomlProblem(path string, err error) string {
	var unknown *toml.StrictMissingError
	var bad *toml.DecodeError
	switch {
	case errors.As(err, &unknown) && len(unknown.Errors) > 0:
		e := unknown.Errors[0]
		row, col := e.Position()
		return fmt.Sprintf("%s:%d:%d: unknown key %q", path, row, col, joinKey(e.Key()))
	case errors.As(err, &bad):
		row, col := bad.Position()
		if key := joinKey(bad.Key()); key != "" {
			return fmt.Sprintf("%s:%d:%d: %s: %v", path, row, col, key, err)
		}
		return fmt.Sprintf("%s:%d:%d: %v", path, row, col, err)
	}
	return fmt.Sprintf("%s: %v", path, err)
}

func joinKey(k toml.Key) string {
	var b []byte
	for i, part := range k {
		if i > 0 {
			b = append(b, '.')
		}
		b = append(b, part...)
	}
	return string(b)
}

// Validate checks the values. Errors are ErrConfig and name the key.
func (c Config) Validate() error {
	bad := func(key string, format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrConfig, key, fmt.Sprintf(format, args...))
	}
	if _, err := ParseProfile(string(c.Profile)); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return bad("listen", "%q: want host:port: %v", c.Listen, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return bad("listen", "%q is not a loopback address; this version serves the local machine only", c.Listen)
	}
	if c.Consensus.Kind != "solo" {
		return bad("consensus.kind", "%q: want solo", c.Consensus.Kind)
	}
	for _, n := range []struct {
		key      string
		v        int64
		min, max int64
	}{
		{"consensus.empty_every", int64(c.Consensus.EmptyEvery), 0, int64(24 * time.Hour)},
		{"consensus.max_txs", int64(c.Consensus.MaxTxs), 1, 1_000_000},
		{"pool.max_txs", int64(c.Pool.MaxTxs), 1, 10_000_000},
		{"pool.max_bytes", c.Pool.MaxBytes, 1 << 20, 1 << 40},
		{"pool.max_eager", int64(c.Pool.MaxEager), 1, 1_000_000},
		{"log.segment_bytes", c.Log.SegmentBytes, 1 << 20, 1 << 40},
	} {
		if n.v < n.min || n.v > n.max {
			return bad(n.key, "%d: want %d to %d", n.v, n.min, n.max)
		}
	}
	return nil
}
