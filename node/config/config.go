package config

import (
	"time"

	"github.com/coppice-go/coppice/node/plan"
)

// Config is a node's configuration, as coppice.toml, the environment and the flags of start
// together set it (see Resolve). Its zero value is not usable; Defaults returns the configuration
// that an empty file stands for. The table of keys (see Keys) has a row for every field, with its
// meaning, its unit and its bounds.
type Config struct {
	Profile        plan.Profile
	Dashboard      string
	Listen         string // host:port; port 0 takes a free one
	Insecure       bool
	AllowedHosts   string // with commas
	AllowedOrigins string // with commas
	TLS            TLSConfig
	Consensus      ConsensusConfig
	Manager        ManagerConfig
	Rounds         RoundsConfig
	Reset          ResetConfig
	Pool           PoolConfig
	Log            LogConfig
	Snapshots      SnapshotsConfig
	Retention      RetentionConfig
	StateSync      StateSyncConfig
	Halt           HaltConfig
	Streams        StreamsConfig
	Diagnostics    DiagnosticsConfig
}

// TLSConfig names the files of the listener's certificate. A relative path begins at the home.
type TLSConfig struct {
	Cert string // PEM, the certificate and its intermediates
	Key  string // PEM
}

// ConsensusConfig chooses and tunes the driver.
type ConsensusConfig struct {
	Kind       string
	EmptyEvery Duration
	MaxTxs     int

	RetainBlocks int64 // of a consensus with peers
	MemoryShare  int   // percentage of GOMEMLIMIT for the processes of the consensus
}

// ManagerConfig says where a consensus listens for requests to restart it.
type ManagerConfig struct {
	Listen               string // host:port, or empty
	AllowUnauthenticated bool
}

// RoundsConfig says what a node with a service of rounds shows of it.
type RoundsConfig struct {
	Healthcheck string // host:port, or empty
	LogFile     string // a relative path begins at the home; empty: none
}

// ResetConfig names the other nodes of a chain that is reset.
type ResetConfig struct {
	Peers     string // with commas
	PeersCA   string // PEM; a relative path begins at the home
	TokenFile string // a relative path begins at the home
}

// PoolConfig bounds the mempool.
type PoolConfig struct {
	MaxTxs   int
	MaxBytes int64
	MaxEager int
}

// LogConfig tunes the event log.
type LogConfig struct {
	SegmentBytes int64
	Retain       string
}

// SnapshotsConfig says when snapshots of the state are taken, and how many are kept.
type SnapshotsConfig struct {
	EveryBytes int64
	Keep       int
}

// RetentionConfig says how much old state is kept.
type RetentionConfig struct {
	Versions int64
}

// StateSyncConfig says at which heights snapshots for peers are made, and how many are kept.
type StateSyncConfig struct {
	EveryHeights int64
	Keep         int
}

// HaltConfig says when the node stops by itself.
type HaltConfig struct {
	Height int64
	Time   string // RFC 3339, or empty
}

// StreamsConfig bounds the delivery of blocks to sinks.
type StreamsConfig struct {
	Memory   int64
	Deadline Duration
	Lease    Duration
	KeepFree int64 `toml:"keep_free"` // of the disk, in bytes
}

// At returns the time after which no block is committed; zero: there is none.
func (h HaltConfig) At() (time.Time, error) {
	if h.Time == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, h.Time)
	return at.UTC(), err
}

// DiagnosticsConfig says what the program writes about itself to standard error. Diagnostics are
// not the event log.
type DiagnosticsConfig struct {
	Level  string
	Format string
}

// Duration is a time.Duration written as "1s500ms".
type Duration time.Duration

// UnmarshalText reads a duration as time.ParseDuration does.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// MarshalText writes d as time.Duration prints it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String returns d as time.Duration prints it.
func (d Duration) String() string { return time.Duration(d).String() }

// Defaults returns the configuration that an empty file stands for.
func Defaults() Config {
	return Config{
		Profile:   plan.Default,
		Dashboard: "read",
		Listen:    "127.0.0.1:7070",
		Consensus: ConsensusConfig{Kind: defaultKind(), MaxTxs: 5_000, MemoryShare: 100},
		Pool:      PoolConfig{MaxTxs: 200_000, MaxBytes: 512 << 20, MaxEager: 2_048},
		Log:       LogConfig{SegmentBytes: 64 << 20, Retain: RetainAll},
		Snapshots: SnapshotsConfig{EveryBytes: 512 << 20, Keep: 2},
		StateSync: StateSyncConfig{EveryHeights: 5_000, Keep: 2},
		Streams: StreamsConfig{Memory: 64 << 20, Deadline: Duration(30 * time.Second),
			Lease: Duration(10 * time.Second), KeepFree: 1 << 30},
		Diagnostics: DiagnosticsConfig{Level: "info", Format: "console"},
	}
}

// Load reads the configuration of a home from its file alone, without the environment and flags.
// Errors are exit.ErrConfig and name the file, the place in it and the value that was expected.
func Load(home string) (Config, error) {
	s, err := Resolve(home, Sources{})
	return s.Config, err
}

// Validate returns an error if a value is invalid. The error is an *Error, which names the keys,
// and so is exit.ErrConfig.
func (c Config) Validate() error {
	return Settings{Config: c}.validate()
}
