package manager

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Settings are those of a manager. The published names of the environment's variables stand beside
// the fields.
type Settings struct {
	Home     string // TMHOME
	ProxyApp string // PROXY_APP: tcp://host:port, host:port or unix://path

	EmptyBlocks string // CREATE_EMPTY_BLOCKS: "true" or "false"; empty is as the home's configuration says
	P2P, RPC    string // P2P_LADDR, RPC_LADDR; empty is as the home's configuration says

	LogFile  string // LOG_FILE, if WRITE_TO_LOG is true; empty is none
	LogBytes int64  // LOG_FILE_MAX_BYTES

	DumpDir string // TMSTATE, if DEV_MODE is 1; empty is no dump before a hard reset
	ID      string // ID: of the node in a dump

	// ChainName is the part of a chain id before the number of the period.
	ChainName string

	// StallAfter is how long a chain may stand still before that is told. If RestartStalled is set,
	// CometBFT is then restarted, at most five times.
	StallAfter     time.Duration
	RestartStalled bool
}

// Names and values that the published manager has.
const (
	DefaultListen    = "127.0.0.1:8080"
	DefaultChainName = "autonolas"
	defaultLogFile   = "tendermint.log"
	defaultDumpDir   = "/tm_state"
	defaultStall     = 60 * time.Second
)

// Variables are the variables of the environment that FromEnvironment reads.
var Variables = []string{"PROXY_APP", "TMHOME", "CREATE_EMPTY_BLOCKS", "USE_GRPC", "LOG_FILE", "WRITE_TO_LOG",
	"LOG_FILE_MAX_BYTES", "DEV_MODE", "ID", "P2P_LADDR", "RPC_LADDR", "TMSTATE"}

// ErrSettings is the error for settings that no manager can run with.
var ErrSettings = errors.New("settings of the manager")

// FromEnvironment reads the settings from the environment's variables. Their values are checked by
// Check.
func FromEnvironment(get func(string) string) (Settings, error) {
	s := Settings{
		Home: get("TMHOME"), ProxyApp: get("PROXY_APP"), P2P: get("P2P_LADDR"), RPC: get("RPC_LADDR"), ID: get("ID"),
		EmptyBlocks: strings.ToLower(get("CREATE_EMPTY_BLOCKS")), LogBytes: DefaultLogBytes,
		ChainName: DefaultChainName, StallAfter: defaultStall,
	}

	grpc, err := truth("USE_GRPC", get)
	if err != nil {
		return s, err
	}
	if grpc {
		return s, fmt.Errorf("%w: USE_GRPC is true, want false or nothing: over gRPC, CometBFT goes on without a new "+
			"handshake when the application is killed, and could diverge from it unnoticed", ErrSettings)
	}

	toFile, err := truth("WRITE_TO_LOG", get)
	if err != nil {
		return s, err
	}
	if toFile {
		s.LogFile = or(get("LOG_FILE"), defaultLogFile)
	}
	if n := get("LOG_FILE_MAX_BYTES"); n != "" {
		if s.LogBytes, err = strconv.ParseInt(n, 10, 64); err != nil || s.LogBytes <= 0 {
			return s, fmt.Errorf("%w: LOG_FILE_MAX_BYTES is %q, want a number of bytes above 0", ErrSettings, n)
		}
	}

	switch dev := get("DEV_MODE"); dev {
	case "1":
		s.DumpDir = or(get("TMSTATE"), defaultDumpDir)
	case "", "0":
	default:
		return s, fmt.Errorf("%w: DEV_MODE is %q, want 1 or 0", ErrSettings, dev)
	}

	return s, nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func truth(name string, get func(string) string) (bool, error) {
	switch v := strings.ToLower(get(name)); v {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	default:
		return false, fmt.Errorf("%w: %s is %q, want true or false", ErrSettings, name, get(name))
	}
}

// Check returns an error for settings that no manager can run with, and completes the rest.
func (s *Settings) Check() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", ErrSettings, fmt.Errorf(format, args...))
	}

	if s.Home == "" {
		return wrong("TMHOME is not set, and no --home is given: want the directory of a CometBFT home")
	}
	if s.ProxyApp == "" {
		return wrong("PROXY_APP is not set, and no --proxy-app is given: want the address of the application, such " +
			"as tcp://127.0.0.1:26658")
	}
	if !strings.Contains(s.ProxyApp, "://") {
		s.ProxyApp = "tcp://" + s.ProxyApp
	}
	if rest, ok := strings.CutPrefix(s.ProxyApp, "unix://"); ok && rest != "" {
	} else if err := tcp(s.ProxyApp); err != nil {
		return wrong("PROXY_APP is %q: %w", s.ProxyApp, err)
	}

	for _, l := range []struct{ name, addr string }{{"P2P_LADDR", s.P2P}, {"RPC_LADDR", s.RPC}} {
		if l.addr == "" {
			continue
		}
		if err := tcp(l.addr); err != nil {
			return wrong("%s is %q: %w", l.name, l.addr, err)
		}
	}

	if s.EmptyBlocks != "" && s.EmptyBlocks != "true" && s.EmptyBlocks != "false" {
		return wrong("CREATE_EMPTY_BLOCKS is %q, want true or false", s.EmptyBlocks)
	}
	if strings.ContainsAny(s.ID, `/\`) {
		return wrong("ID is %q, want a word without slashes", s.ID)
	}
	if s.StallAfter <= 0 {
		return wrong("the time after which a chain counts as stalled is %v, want more than 0s", s.StallAfter)
	}
	if longest := len(s.ChainName) + len("-") + mostDigits; s.ChainName == "" || longest > mostChainID {
		return wrong("the chain's name is %q, want 1 to %d bytes: CometBFT takes chain ids of at most %d, and a "+
			"number of %d digits follows it", s.ChainName, mostChainID-mostDigits-1, mostChainID, mostDigits)
	}

	return nil
}

const (
	mostChainID = 50 // types.MaxChainIDLen of CometBFT
	mostDigits  = 20 // of a period count
)

func tcp(addr string) error {
	rest, ok := strings.CutPrefix(addr, "tcp://")
	if !ok {
		return errors.New("want tcp://host:port")
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil || host == "" {
		return errors.New("want tcp://host:port")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q, want 0 to 65535", port)
	}
	return nil
}

// chainID returns the chain id of a period.
func (s *Settings) chainID(count string) (string, error) {
	if n, err := strconv.ParseUint(count, 10, 64); err != nil || strconv.FormatUint(n, 10) != count {
		return "", fmt.Errorf("period_count: %q, want a number from 0 on", count)
	}
	return s.ChainName + "-" + count, nil
}
