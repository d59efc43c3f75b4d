package home

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/go-viper/mapstructure/v2"
	"github.com/pelletier/go-toml/v2"

	"github.com/coppice-go/coppice/internal/durable"
)

// Profile chooses the settings of a new CometBFT home.
type Profile string

const (
	// Tuned has short timeouts and large buffers, for machines close to each other.
	Tuned Profile = "tuned"

	// Stock has CometBFT's own settings, except for the security defaults.
	Stock Profile = "stock"
)

// ParseProfile returns the profile with the name s.
func ParseProfile(s string) (Profile, error) {
	switch p := Profile(s); p {
	case Tuned, Stock:
		return p, nil
	}
	return "", fmt.Errorf("CometBFT profile %q: want %s or %s", s, Tuned, Stock)
}

// ErrHome is the error if a CometBFT home cannot be used as it is.
var ErrHome = errors.New("CometBFT home")

// Options describe a new CometBFT home.
type Options struct {
	Profile Profile
	Moniker string // empty: "coppice"

	// P2P and RPC are host:port; empty stands for CometBFT's port on loopback.
	P2P, RPC string

	// EmptyEvery is the time without a block after which an empty one is made; 0 means never.
	EmptyEvery time.Duration

	// MaxTxBytes is the size of the largest transaction that the genesis allows.
	MaxTxBytes uint64
}

// newConfig returns the configuration of a new home.
func newConfig(o Options) *cfg.Config {
	c := cfg.DefaultConfig()
	if o.Profile != Stock {
		tune(c)
	}

	secure(c)
	c.Moniker = orString(o.Moniker, "coppice")
	c.P2P.ListenAddress = "tcp://" + orString(o.P2P, "127.0.0.1:26656")
	c.RPC.ListenAddress = "tcp://" + orString(o.RPC, "127.0.0.1:26657")
	c.Consensus.CreateEmptyBlocks = o.EmptyEvery > 0
	c.Consensus.CreateEmptyBlocksInterval = o.EmptyEvery
	if o.MaxTxBytes > 0 {
		c.Mempool.MaxTxBytes = int(o.MaxTxBytes)
	}

	boundRPC(c)
	c.LogLevel = "main:info,statesync:info,blocksync:info,p2p:error,*:error"

	return c
}

// tune sets the settings that matter for speed, as measured.
func tune(c *cfg.Config) {
	c.Consensus.TimeoutPropose, c.Consensus.TimeoutProposeDelta = 500*time.Millisecond, 200*time.Millisecond
	c.Consensus.TimeoutPrevote, c.Consensus.TimeoutPrevoteDelta = 200*time.Millisecond, 100*time.Millisecond
	c.Consensus.TimeoutPrecommit, c.Consensus.TimeoutPrecommitDelta = 200*time.Millisecond, 100*time.Millisecond
	c.Consensus.TimeoutCommit = 0
	c.Consensus.SkipTimeoutCommit = true
	c.Consensus.PeerGossipSleepDuration = 10 * time.Millisecond
	c.Consensus.PeerQueryMaj23SleepDuration = 200 * time.Millisecond
	c.P2P.FlushThrottleTimeout = time.Millisecond
	c.P2P.SendRate, c.P2P.RecvRate = 64<<20, 64<<20
	c.Mempool.Size, c.Mempool.CacheSize = 50_000, 200_000
	c.TxIndex.Indexer = "null"
	c.Storage.DiscardABCIResponses = true
}

// secure restricts what CometBFT leaves open: who may connect, and which data it serves to whom.
// CometBFT listens beyond loopback only if the options say so.
func secure(c *cfg.Config) {
	c.P2P.PexReactor = false // the validators are persistent, private peers
	c.P2P.AddrBookStrict = false
	c.P2P.PersistentPeersMaxDialPeriod = 5 * time.Second
	c.Consensus.DoubleSignCheckHeight = 0 // otherwise CometBFT refuses to start after a supervised restart
	c.RPC.Unsafe = false
	c.RPC.CORSAllowedOrigins = []string{}
	c.RPC.PprofListenAddress, c.RPC.GRPCListenAddress = "", ""
	c.Instrumentation.Prometheus = false
	c.Instrumentation.PrometheusListenAddr = "127.0.0.1:26660"
	c.DBBackend = "goleveldb"
	c.ProxyApp = "unix://set-by-coppice"
}

func orString(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// LoadConfig reads the configuration of a CometBFT home as CometBFT's own program does. It also
// returns an error for some settings that CometBFT accepts silently: unknown or missing keys, and
// bounds of the RPC that are too low (see checkSaid and checkRPC).
func LoadConfig(home string) (*cfg.Config, error) {
	c, said, err := readConfig(home)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(checkSaid(said), checkRPC(c)); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrHome, configPath(home), err)
	}
	return c, nil
}

// keys is a configuration file: its text, its values, and its unknown keys.
type keys struct {
	text    []byte
	values  map[string]any
	unknown []string
}

// readConfig reads the configuration of a home that somebody else has made, without the checks of
// LoadConfig. Such a home may have keys of another version of CometBFT.
func readConfig(home string) (*cfg.Config, keys, error) {
	path := configPath(home)
	if err := whole(home, path); err != nil {
		return nil, keys{}, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, keys{}, fmt.Errorf("%w: %w", ErrHome, err)
	}
	return parseConfig(home, data)
}

// parseConfig returns the configuration of a home whose file contains data.
func parseConfig(home string, data []byte) (*cfg.Config, keys, error) {
	fail := func(err error) (*cfg.Config, keys, error) {
		return nil, keys{}, fmt.Errorf("%w: %s: %w", ErrHome, configPath(home), err)
	}
	var raw map[string]any
	if err := toml.NewDecoder(bytes.NewReader(data)).Decode(&raw); err != nil {
		return fail(err)
	}

	c := cfg.DefaultConfig()
	var meta mapstructure.Metadata
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: c, WeaklyTypedInput: true, Metadata: &meta,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(mapstructure.StringToTimeDurationHookFunc(),
			mapstructure.StringToSliceHookFunc(",")),
	})
	if err != nil {
		return nil, keys{}, err
	}
	if err := d.Decode(raw); err != nil {
		return fail(err)
	}

	c.SetRoot(home)
	if err := c.ValidateBasic(); err != nil {
		return fail(err)
	}

	return c, keys{text: data, values: raw, unknown: meta.Unused}, nil
}

func configPath(home string) string {
	return filepath.Join(home, cfg.DefaultConfigDir, cfg.DefaultConfigFileName)
}

// Network describes a home's place in its network.
type Network struct {
	Moniker  string   // empty leaves it unchanged; the same holds for the next two
	P2P, RPC string   // host:port to listen on
	Peers    []string // the persistent and private peers, each as node id@host:port
}

// SetNetwork writes the addresses and the peers of a home into its configuration. A CometBFT that
// is running does not notice.
func SetNetwork(home string, n Network) error {
	c, err := LoadConfig(home)
	if err != nil {
		return err
	}

	var ids []string
	for _, p := range n.Peers {
		id, _, ok := strings.Cut(p, "@")
		if !ok {
			return fmt.Errorf("%w: peer %q: want id@host:port", ErrHome, p)
		}
		ids = append(ids, id)
	}

	c.Moniker = orString(n.Moniker, c.Moniker)
	if n.P2P != "" {
		c.P2P.ListenAddress = "tcp://" + n.P2P
	}
	if n.RPC != "" {
		c.RPC.ListenAddress = "tcp://" + n.RPC
	}

	c.P2P.PersistentPeers, c.P2P.PrivatePeerIDs = strings.Join(n.Peers, ","), strings.Join(ids, ",")
	c.P2P.AllowDuplicateIP = true // several on one machine

	return writeConfig(home, c)
}

// writeConfig writes the configuration file, whole or not at all. (If CometBFT cannot write the
// file, it ends the process. Only commands that make or change a home call writeConfig.)
func writeConfig(home string, c *cfg.Config) error {
	path := configPath(home)
	next := path + ".new"
	cfg.WriteConfigFile(next, c)
	return replace(next, path)
}

// replace durably renames next to path.
func replace(next, path string) error {
	f, err := os.OpenFile(next, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return durable.OS.Publish(f, next, path)
}
