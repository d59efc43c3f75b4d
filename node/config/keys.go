package config

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coppice-go/coppice/node/plan"
)

// Key describes one key of the configuration.
type Key struct {
	Name string // as in coppice.toml: section.key
	Doc  string // whole sentences, for people
	Unit string // of the value; empty if the values show it themselves
	Flag string // of "coppice start", besides --set; empty: none
	Live bool   // a change takes effect when a running node reads its configuration again (SIGHUP)

	OneOf    []string // all valid values, if there are few
	Min, Max int64    // bounds of a number, or of a duration in nanoseconds

	field func(*Config) any    // where the value is: *string, *plan.Profile, *bool, *int, *int64, *Duration
	check func(c Config) error // checks more than the bounds, and may look at other keys; nil: nothing
	fill  func(*Key)           // adds what the program has registered; nil: nothing
}

// keys is the single description of all keys. Files, environment variables and flags are read by
// it, "coppice config" and the coppice.toml of "coppice init" are printed from it, and a test
// compares docs/configuration.md with it.
//
// To add a key, add the field to Config and its default to Defaults, add one row here, and run
// "go test ./node/config -run Documented -update", which writes docs/configuration.md. Keys of one
// section stand together, and keys without a section come first. Another test fails if a field of
// Config has no row.
var keys = []Key{
	{
		Name: "profile", Flag: "profile", OneOf: profileNames(),
		Doc: "Limits of the supervision tree. " +
			"default restarts the transaction core up to 3 times in 10 s before the node as a whole restarts. " +
			"strict restarts the node at the first failure in the transaction core. " +
			"chaos is for test runs that kill children all the time: every limit except the structural zeros is " +
			"10000, and a child has 1 s to stop.",
		field: func(c *Config) any { return &c.Profile },
	},
	{
		Name: "listen", Flag: "listen", Unit: "host:port",
		Doc: "Address on which the node listens. Port 0 takes a free port. " +
			"An address beyond loopback requires a certificate (tls.cert) or insecure, and every call to it " +
			"requires a token.",
		field: func(c *Config) any { return &c.Listen },
		check: checkListen,
	},
	{
		Name: "dashboard", OneOf: []string{"off", "read", "full"},
		Doc: "What the dashboard at /dashboard/ does. read shows the node. full also lets somebody who came by a " +
			"link of 'coppice dashboard', or who gave it the admin token, kill children, change the level of the " +
			"diagnostics and download a diagnosis. off: there is none. Beyond loopback, a browser logs in with a " +
			"token or such a link.",
		field: func(c *Config) any { return &c.Dashboard },
	},
	{
		Name: "insecure", Flag: "insecure",
		Doc: "Listen beyond loopback without TLS: tokens and transactions cross the network unencrypted. For " +
			"networks that are protected in another way.",
		field: func(c *Config) any { return &c.Insecure },
	},
	{
		Name: "allowed_hosts", Live: true, Unit: "names with commas, such as node1.example",
		Doc: "Names by which clients may address the listener, in the header Host, besides localhost and loopback " +
			"addresses. A listener on a loopback address refuses every other name, because a page of another site " +
			"may have made its name point here (DNS rebinding). A listener beyond loopback checks the name only " +
			"if this list has one. Give the names that a proxy passes on.",
		field: func(c *Config) any { return &c.AllowedHosts },
		check: checkHosts,
	},
	{
		Name: "allowed_origins", Live: true, Unit: "origins with commas, such as https://app.example",
		Doc: "Origins of web pages of other sites that may call the node from a browser (CORS). Pages of all other " +
			"origins are refused. On a loopback address such a page may submit transactions without a token.",
		field: func(c *Config) any { return &c.AllowedOrigins },
		check: checkOrigins,
	},
	{
		Name: "tls.cert", Unit: "path",
		Doc: "File of the listener's certificate in PEM, with its intermediate certificates. Empty: no TLS. A " +
			"relative path begins at the home. The file is read again on SIGHUP.",
		field: func(c *Config) any { return &c.TLS.Cert },
		check: func(c Config) error {
			if c.TLS.Cert == "" && c.TLS.Key != "" {
				return errors.New("empty, but tls.key is not: want both or neither")
			}
			return nil
		},
	},
	{
		Name: "tls.key", Unit: "path",
		Doc: "File of the certificate's private key in PEM. A relative path begins at the home. The file is read " +
			"again on SIGHUP.",
		field: func(c *Config) any { return &c.TLS.Key },
		check: func(c Config) error {
			if c.TLS.Key == "" && c.TLS.Cert != "" {
				return errors.New("empty, but tls.cert is not: want both or neither")
			}
			return nil
		},
	},
	{
		Name: "consensus.kind", Doc: "The kind of consensus that orders transactions.",
		fill:  func(k *Key) { k.OneOf, k.Doc = kindNames(), k.Doc+" "+kindDocs() },
		field: func(c *Config) any { return &c.Consensus.Kind },
		check: checkKind,
	},
	{
		Name: "consensus.empty_every", Max: int64(24 * time.Hour), Unit: "duration",
		Doc:   "Make a block without transactions when this time has passed since the last block. 0s: never.",
		field: func(c *Config) any { return &c.Consensus.EmptyEvery },
	},
	{
		Name: "consensus.max_txs", Min: 1, Max: 1_000_000, Unit: "transactions",
		Doc:   "Largest number of transactions in a block.",
		field: func(c *Config) any { return &c.Consensus.MaxTxs },
	},
	{
		Name: "consensus.retain_blocks", Max: 1 << 50, Unit: "blocks",
		Doc: "Number of newest blocks that a consensus with peers keeps, for nodes that join by block sync and " +
			"for light clients. 0: all. Blocks after a snapshot for peers are kept as long as the snapshot.",
		field: func(c *Config) any { return &c.Consensus.RetainBlocks },
	},
	{
		Name: "consensus.memory_share", Min: 1, Max: 100, Unit: "percent",
		Doc: "Share of GOMEMLIMIT that a consensus with a process of its own gets for that process. The " +
			"node's own process keeps the whole of GOMEMLIMIT.",
		field: func(c *Config) any { return &c.Consensus.MemoryShare },
	},
	{
		Name: "manager.listen", Unit: "host:port",
		Doc: "Address of a second listener, over which a consensus with a process of its own is restarted by the " +
			"HTTP calls of docs/manager.md. Empty: there is none. It has no TLS: an address beyond loopback requires " +
			"insecure, and every call to it the admin token.",
		field: func(c *Config) any { return &c.Manager.Listen },
		check: checkManager,
	},
	{
		Name:  "manager.allow_unauthenticated",
		Doc:   "Let everybody use manager.listen who can reach it, without a token. For clients that send none.",
		field: func(c *Config) any { return &c.Manager.AllowUnauthenticated },
	},
	{
		Name: "rounds.healthcheck", Unit: "host:port",
		Doc: "Address of a listener that answers GET /healthcheck alone, for the monitoring of a service of rounds. " +
			"Port 0 takes a free port. Empty: only the address in listen answers it. It has no TLS and asks for no " +
			"token: an address beyond loopback requires insecure.",
		field: func(c *Config) any { return &c.Rounds.Healthcheck },
		check: func(c Config) error { return checkPlain(c, c.Rounds.Healthcheck) },
	},
	{
		Name: "rounds.log_file", Unit: "path",
		Doc: "File to which a node with a service of rounds writes which rounds, behaviours and timeouts begin and " +
			"end, in lines that programs for such logs read. A relative path begins at the home. At 64 MiB it is " +
			"renamed to the same name with .1, in the place of the one before. Empty: none.",
		field: func(c *Config) any { return &c.Rounds.LogFile },
	},
	{
		Name: "reset.peers", Unit: "addresses with commas, such as 10.0.0.2:7070 or https://node2.example:7070",
		Doc: "Addresses of the APIs of the chain's other nodes, above all of the validators. While the chain is " +
			"being reset, and while its height stands still, the node asks them for the certificates of resets. A " +
			"chain with several validators whose genesis.json allows resets requires one at least. What peers " +
			"answer is checked, so they need not be trusted.",
		field: func(c *Config) any { return &c.Reset.Peers },
		check: checkPeers,
	},
	{
		Name: "reset.peers_ca", Unit: "path",
		Doc: "File of the certificates, in PEM, that those of the peers with https:// must lead to. Empty: those " +
			"that the machine trusts. A relative path begins at the home.",
		field: func(c *Config) any { return &c.Reset.PeersCA },
	},
	{
		Name: "reset.token_file", Unit: "path",
		Doc: "File of the tokens for peers beyond loopback: on each line an address of reset.peers, a space and a " +
			"token of that node (read-only is enough), or one token for all others. A relative path begins at the " +
			"home. Empty: no tokens.",
		field: func(c *Config) any { return &c.Reset.TokenFile },
	},
	{
		Name: "pool.max_txs", Min: 1, Max: 10_000_000, Unit: "transactions",
		Doc: "Largest number of accepted transactions without a result. Further transactions are refused until " +
			"there is room.",
		field: func(c *Config) any { return &c.Pool.MaxTxs },
	},
	{
		Name: "pool.max_bytes", Min: 1 << 20, Max: 1 << 40, Unit: "bytes",
		Doc:   "Largest total size of the accepted transactions without a result.",
		field: func(c *Config) any { return &c.Pool.MaxBytes },
	},
	{
		Name: "pool.max_eager", Min: 1, Max: 1_000_000, Unit: "transactions",
		Doc: "Largest number of transactions that execute ahead of their place in the order. Each executes up to " +
			"its first read.",
		field: func(c *Config) any { return &c.Pool.MaxEager },
	},
	{
		Name: "log.segment_bytes", Min: 1 << 20, Max: 1 << 40, Unit: "bytes",
		Doc:   "Size at which the event log begins a new file.",
		field: func(c *Config) any { return &c.Log.SegmentBytes },
	},
	{
		Name: "log.retain", Unit: "all, snapshot, or a number of bytes",
		Doc: "How much of the event log is kept. " +
			"all: everything, so that the state can be rebuilt from the first record. " +
			"snapshot: the records after the oldest snapshot, so that the state can be rebuilt from it. " +
			"A number: the same records, and at least this many bytes of the newest ones. Records that the state, " +
			"the pool or a follower still needs are never removed.",
		field: func(c *Config) any { return &c.Log.Retain },
		check: checkRetain,
	},
	{
		Name: "snapshots.every_bytes", Max: 1 << 50, Unit: "bytes",
		Doc: "Take a snapshot of the state whenever the event log has grown by this much. 0: never " +
			"automatically.",
		field: func(c *Config) any { return &c.Snapshots.EveryBytes },
	},
	{
		Name: "snapshots.keep", Min: 1, Max: 1000, Unit: "snapshots",
		Doc:   "Number of snapshots that are kept. The oldest are removed first.",
		field: func(c *Config) any { return &c.Snapshots.Keep },
	},
	{
		Name: "retention.versions", Max: 1 << 50, Unit: "heights",
		Doc: "Number of newest heights at which the state can be read. Values that only older heights need are " +
			"removed in the background. 0: all heights of the period.",
		field: func(c *Config) any { return &c.Retention.Versions },
	},
	{
		Name: "state_sync.every_heights", Max: 1 << 50, Unit: "heights",
		Doc: "Under a consensus with peers, make a snapshot for them at every multiple of this height. A node can " +
			"join with such a snapshot. 0: make and offer none. " +
			"Nodes with the same number make the same snapshots, and a joining node fetches chunks from all of " +
			"them.",
		field: func(c *Config) any { return &c.StateSync.EveryHeights },
	},
	{
		Name: "state_sync.keep", Min: 1, Max: 10, Unit: "snapshots",
		Doc:   "Number of snapshots for peers that are kept. The oldest are removed first.",
		field: func(c *Config) any { return &c.StateSync.Keep },
	},
	{
		Name: "halt.height", Max: 1 << 50, Unit: "height",
		Doc: "Commit no block after this height: stop in order when it is committed, and exit 0. All nodes of a " +
			"chain that halt at one height have the same state there. 0: never. A node that is at this height " +
			"already stops at once.",
		field: func(c *Config) any { return &c.Halt.Height },
	},
	{
		Name: "halt.time", Unit: "RFC 3339 time",
		Doc: "Commit no block whose time is after this, such as 2026-12-01T12:00:00Z: stop in order when one is due, " +
			"and exit 0. The times of blocks count, not a clock. Empty: never.",
		field: func(c *Config) any { return &c.Halt.Time },
		check: func(c Config) error {
			if _, err := c.Halt.At(); err != nil {
				return fmt.Errorf("%q: want a time such as 2026-12-01T12:00:00Z, or nothing", c.Halt.Time)
			}
			return nil
		},
	},
	{
		Name: "streams.memory", Unit: "bytes", Min: 1 << 20, Max: 1 << 40,
		Doc:   "Memory of the events that all sinks together may be given before they have taken them over.",
		field: func(c *Config) any { return &c.Streams.Memory },
	},
	{
		Name: "streams.deadline", Min: int64(100 * time.Millisecond), Max: int64(24 * time.Hour),
		Doc:   "A sink that neither takes over events nor answers for so long is stopped and started again.",
		field: func(c *Config) any { return &c.Streams.Deadline },
	},
	{
		Name: "streams.lease", Min: int64(100 * time.Millisecond), Max: int64(24 * time.Hour),
		Doc:   "A standby takes over a sink whose writer has given no sign of life for so long.",
		field: func(c *Config) any { return &c.Streams.Lease },
	},
	{
		Name: "streams.keep_free", Unit: "bytes", Min: 0, Max: 1 << 50,
		Doc: "Free space of the disk below which the log is no longer kept for the stream that holds most of it, and " +
			"gates act as after their timeout; on a small disk, a twentieth of it.",
		field: func(c *Config) any { return &c.Streams.KeepFree },
	},
	{
		Name: "diagnostics.level", Flag: "log-level", Live: true, OneOf: []string{"debug", "info", "warn", "error"},
		Doc:   "Lowest level of the diagnostics that the program writes to standard error.",
		field: func(c *Config) any { return &c.Diagnostics.Level },
	},
	{
		Name: "diagnostics.format", Flag: "log-format", OneOf: []string{"console", "json"},
		Doc:   "Format of the diagnostics: lines for people (console), or one JSON object per line (json).",
		field: func(c *Config) any { return &c.Diagnostics.Format },
	},
}

// profileNames returns the names of the profiles.
func profileNames() []string {
	names := make([]string, len(plan.Profiles))
	for i, p := range plan.Profiles {
		names[i] = string(p)
	}
	return names
}

// checkListen checks the address to listen on. An address beyond loopback must be protected by TLS,
// unless the configuration says insecure.
func checkListen(c Config) error {
	host, err := hostOf(c.Listen)
	if err != nil {
		return err
	}

	if Loopback(host) || c.Insecure || c.TLS.Cert != "" || c.TLS.Key != "" {
		return nil
	}
	return fmt.Errorf("%q is not a loopback address: want a certificate in tls.cert and tls.key, or insecure = true",
		c.Listen)
}

// checkManager checks the address of the manager's listener.
func checkManager(c Config) error { return checkPlain(c, c.Manager.Listen) }

// checkPlain checks the address of a listener that has no TLS; empty: there is none.
func checkPlain(c Config, address string) error {
	if address == "" {
		return nil
	}
	host, err := hostOf(address)
	if err != nil {
		return err
	}
	if Loopback(host) || c.Insecure {
		return nil
	}
	return fmt.Errorf("%q is not a loopback address, and this listener has no TLS: want insecure = true",
		address)
}

// hostOf returns the host of an address to listen on.
func hostOf(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("%q: want host:port, such as 127.0.0.1:7070", address)
	}

	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("%q: port %q, want a number from 0 to 65535", address, port)
	} else if strconv.FormatUint(n, 10) != port {
		return "", fmt.Errorf("%q: port %q, want it without signs and leading zeros", address, port)
	}

	return host, nil
}

// Loopback reports whether only this machine can reach a listener on host.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Keys returns all keys of the configuration. The keys of a section stand together.
func Keys() []Key {
	all := slices.Clone(keys)
	for i, k := range keys {
		if k.fill != nil {
			k.fill(&all[i])
		}
	}
	return all
}

// LookupKey returns the key with the given name. If there is none, ok is false and near lists
// similar names, which may have been meant.
func LookupKey(name string) (k Key, near []string, ok bool) {
	for _, k := range Keys() {
		if k.Name == name {
			return k, nil, true
		}
	}

	var elsewhere []string // nearly the name, in another section
	word := name[strings.LastIndexByte(name, '.')+1:]

	for _, k := range keys {
		switch {
		case distance(k.Name, name) <= 2:
			near = append(near, k.Name)
		case distance(k.last(), word) <= min(2, len(word)/4):
			elsewhere = append(elsewhere, k.Name)
		}
	}

	if near == nil {
		near = elsewhere
	}

	return Key{}, near, false
}

// last returns the key's name within its section.
func (k Key) last() string { return k.Name[strings.LastIndexByte(k.Name, '.')+1:] }

// Section returns the name of the key's table in coppice.toml; empty if the key is in no table.
func (k Key) Section() string {
	section, _, dotted := strings.Cut(k.Name, ".")
	if !dotted {
		return ""
	}
	return section
}

// Env returns the name of the environment variable that sets the key.
func (k Key) Env() string {
	return "COPPICE_" + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// Value returns the key's value in c: a string, bool, int64 or Duration.
func (k Key) Value(c Config) any {
	switch p := k.field(&c).(type) {
	case *string:
		return *p

	case *plan.Profile:
		return string(*p)

	case *bool:
		return *p

	case *int:
		return int64(*p)

	case *int64:
		return *p

	case *Duration:
		return *p

	default:
		panic(fmt.Sprintf("config: key %s has a field of type %T", k.Name, p)) // a mistake in the table
	}
}

// Type returns the type of a value in coppice.toml: "string", "boolean", "integer" or "duration".
func (k Key) Type() string {
	switch k.Value(Config{}).(type) {
	case bool:
		return "boolean"
	case int64:
		return "integer"
	case Duration:
		return "duration"
	default:
		return "string"
	}
}

// TOML returns the key's value in c as coppice.toml writes it.
func (k Key) TOML(c Config) string {
	switch v := k.Value(c).(type) {
	case string:
		return strconv.Quote(v)
	case Duration:
		return strconv.Quote(v.String())
	default:
		return fmt.Sprint(v)
	}
}

// Want describes a valid value in a few words.
func (k Key) Want() string {
	switch k.Value(Config{}).(type) {
	case bool:
		return "true or false"

	case int64:
		return fmt.Sprintf("a whole number from %d to %d", k.Min, k.Max)

	case Duration:
		return fmt.Sprintf("a duration from %v to %v, such as \"1s500ms\"", Duration(k.Min), Duration(k.Max))

	default:
		switch {
		case len(k.OneOf) > 0:
			return "one of " + strings.Join(k.OneOf, ", ")
		case k.Unit != "":
			return "a string: " + k.Unit
		}
		return "a string"
	}
}

// set sets the key's value in c from text, which has the form that the environment and flags use.
func (k Key) set(c *Config, text string) error {
	bad := func() error { return fmt.Errorf("%q: want %s", text, k.Want()) }
	number := func(bits int) (int64, error) {
		n, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, bits)
		if err != nil {
			return 0, bad()
		}
		return n, nil
	}

	switch p := k.field(c).(type) {
	case *string:
		*p = text

	case *plan.Profile:
		*p = plan.Profile(text)

	case *bool:
		if text != "true" && text != "false" {
			return bad()
		}
		*p = text == "true"

	case *int:
		n, err := number(strconv.IntSize)
		if err != nil {
			return err
		}
		*p = int(n)

	case *int64:
		n, err := number(64)
		if err != nil {
			return err
		}
		*p = n

	case *Duration:
		var d Duration
		if d.UnmarshalText([]byte(text)) != nil {
			return bad()
		}
		*p = d
	}

	return nil
}

// validate checks the key's value in c.
func (k Key) validate(c Config) error {
	switch v := k.Value(c).(type) {
	case int64:
		if v < k.Min || v > k.Max {
			return fmt.Errorf("%d: want %s", v, k.Want())
		}

	case Duration:
		if int64(v) < k.Min || int64(v) > k.Max {
			return fmt.Errorf("%v: want %s", v, k.Want())
		}

	case string:
		if len(k.OneOf) > 0 && !slices.Contains(k.OneOf, v) {
			return fmt.Errorf("%q: want %s%s", v, k.Want(), didYouMean(nearest(v, k.OneOf)))
		}
	}

	if k.check != nil {
		return k.check(c)
	}
	return nil
}
