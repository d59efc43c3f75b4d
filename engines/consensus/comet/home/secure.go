package home

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	cfg "github.com/cometbft/cometbft/config"
)

// Bounds of CometBFT's RPC. CometBFT answers a whole batch in memory, so these values bound the
// memory that a stranger can make it use.
const (
	RPCBatch       = 100
	rpcConnections = 200
	rpcBody        = 4 << 20 // or more, if the largest transaction needs it
)

// FeedBytes is the approximate number of bytes of transactions that the feed sends at once. The
// last transaction may exceed it.
const FeedBytes = 1 << 20

// neededBody returns the size of the largest request of the feed: its transactions in base64, and
// the JSON around each.
func neededBody(maxTxBytes int) int64 {
	const words = 128
	return (int64(maxTxBytes)+FeedBytes)*4/3 + RPCBatch*words
}

// boundRPC sets the bounds of CometBFT's RPC. They hold for our own socket as well as for TCP,
// because CometBFT has one setting for both.
func boundRPC(c *cfg.Config) {
	c.RPC.MaxRequestBatchSize, c.RPC.MaxOpenConnections = RPCBatch, rpcConnections
	c.RPC.MaxBodyBytes = max(rpcBody, neededBody(c.Mempool.MaxTxBytes))
}

// checkRPC returns an error for bounds that are too low for the feed.
func checkRPC(c *cfg.Config) error {
	if n := c.RPC.MaxRequestBatchSize; n > 0 && n < RPCBatch {
		return fmt.Errorf("rpc.max_request_batch_size: %d, want at least %d: the node sends "+
			"its transactions to CometBFT this way", n, RPCBatch)
	}

	if n, want := c.RPC.MaxBodyBytes, neededBody(c.Mempool.MaxTxBytes); n < want {
		return fmt.Errorf("rpc.max_body_bytes: %d, want at least %d, for mempool.max_tx_bytes = %d: the node "+
			"sends its transactions to CometBFT this way", n, want, c.Mempool.MaxTxBytes)
	}

	return nil
}

// mustSay holds the keys that a configuration must set, because CometBFT's own defaults would open
// the node to everybody. The values are those defaults.
var mustSay = map[string]string{
	"p2p.laddr": "tcp://0.0.0.0:26656",
	"p2p.pex":   "true",
	"rpc.laddr": "tcp://127.0.0.1:26657",
}

// checkSaid returns an error for unknown keys, such as misspelled ones, and for a file without the
// keys that keep the node closed.
func checkSaid(k keys) error {
	slices.Sort(k.unknown)

	var errs []error
	for _, key := range k.unknown {
		at := ""
		if n := lineOf(k.text, key); n > 0 {
			at = fmt.Sprintf("line %d: ", n)
		}
		errs = append(errs, fmt.Errorf("%sunknown key %q", at, key))
	}

	for _, key := range slices.Sorted(maps.Keys(mustSay)) {
		section, name, _ := strings.Cut(key, ".")
		if in, _ := k.values[section].(map[string]any); in == nil || in[name] == nil {
			errs = append(errs, fmt.Errorf("%s is not set, and CometBFT's default is %q: set it explicitly",
				key, mustSay[key]))
		}
	}

	return errors.Join(errs...)
}

// lineOf returns the line of a key (section.name) or of a section in a TOML file, or 0 if there is
// none.
func lineOf(text []byte, key string) int {
	section, n := "", 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok {
			name, _, _ = strings.Cut(name, "]")
			if section = strings.TrimSpace(name); section == key {
				return n
			}
			continue
		}

		name, _, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); section != "" {
			name = section + "." + name
		}
		if ok && name == key {
			return n
		}
	}

	return 0
}

// Exposures returns a description of each setting that is less careful than in a new home. The
// address for peers is not among them, because a validator must listen for its peers.
func Exposures(c *cfg.Config) (out []string) {
	add := func(is bool, format string, args ...any) {
		if is {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	add(c.P2P.PexReactor, "p2p.pex = true: any node that connects learns of the peers, and is dialled")
	for a := range strings.SplitSeq(c.RPC.ListenAddress, ",") {
		add(isPublic(a), "rpc.laddr = %q: anyone who can reach it may submit, subscribe and read everything", a)
	}

	add(c.RPC.Unsafe, "rpc.unsafe = true: anyone who can reach the RPC may stop the node's peers and profile it")
	add(len(c.RPC.CORSAllowedOrigins) > 0,
		"rpc.cors_allowed_origins = %q: pages from these origins may use the RPC through a browser",
		c.RPC.CORSAllowedOrigins)
	add(strings.HasPrefix(c.PrivValidatorListenAddr, "tcp://") && isPublic(c.PrivValidatorListenAddr),
		"priv_validator_laddr = %q: CometBFT takes whoever connects first for the remote signer",
		c.PrivValidatorListenAddr)
	add(c.RPC.GRPCListenAddress != "", "rpc.grpc_laddr = %q", c.RPC.GRPCListenAddress)
	add(isPublic(c.RPC.PprofListenAddress), "rpc.pprof_laddr = %q: anyone who can reach it may read the memory",
		c.RPC.PprofListenAddress)

	add(c.Instrumentation.Prometheus && isPublic(c.Instrumentation.PrometheusListenAddr),
		"instrumentation.prometheus_listen_addr = %q", c.Instrumentation.PrometheusListenAddr)
	body := max(rpcBody, neededBody(c.Mempool.MaxTxBytes))
	add(c.RPC.MaxBodyBytes > body, "rpc.max_body_bytes = %d, more than %d: one request may take as much memory, and "+
		"many times that to answer", c.RPC.MaxBodyBytes, body)

	add(c.RPC.MaxRequestBatchSize == 0 || c.RPC.MaxRequestBatchSize > RPCBatch,
		"rpc.max_request_batch_size = %d, more than %d: CometBFT answers a whole batch in memory",
		c.RPC.MaxRequestBatchSize, RPCBatch)

	return out
}

// isPublic reports whether an address to listen on is reachable from other machines.
func isPublic(address string) bool {
	if address == "" || strings.HasPrefix(address, "unix://") {
		return false
	}
	host, _, err := net.SplitHostPort(hostPort(address))
	return err != nil || !isLoopback(host)
}
