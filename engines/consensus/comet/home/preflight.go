package home

import (
	"bytes"
	goed25519 "crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtflags "github.com/cometbft/cometbft/libs/cli/flags"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	cmtlog "github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"

	"github.com/coppice-go/coppice/internal/syserr"
)

// Errors about the state that keeps a validator from signing twice.
var (
	ErrSigning      = errors.New("CometBFT's signing state is lost")
	ErrSigningOld   = errors.New("CometBFT's signing state is older than its blocks")
	ErrSigningAhead = errors.New("CometBFT's signing state is ahead of its blocks")
)

// Preflight returns an error for a home with which the process of CometBFT would end at every
// start: one with invalid keys, or with settings that do not work. Errors wrap ErrHome or
// ErrSigning, and name the file.
func Preflight(c *cfg.Config) error {
	if err := settings(c); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrHome, configPath(c.RootDir), err)
	}
	if err := checkKeys(c); errors.Is(err, ErrHome) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %w", ErrHome, err)
	}
	if c.PrivValidatorListenAddr != "" {
		return nil
	}
	return checkSigning(c.PrivValidatorStateFile())
}

// settings checks the settings that CometBFT itself checks only when it uses them.
func settings(c *cfg.Config) error {
	if c.DBBackend != "goleveldb" {
		return fmt.Errorf(`db_backend = %q, want "goleveldb": this program has no other backend`, c.DBBackend)
	}

	if n := c.Consensus.DoubleSignCheckHeight; n != 0 {
		return fmt.Errorf("double_sign_check_height = %d, want 0: with it CometBFT refuses each start after which it "+
			"finds its own signature in the last %d blocks, and so every restart by its supervisor; "+
			"a second process with this home is kept out by the home's lock, and a second home with this key must "+
			"never be started", n, n)
	}

	if _, err := cmtflags.ParseLogLevel(c.LogLevel, cmtlog.NewNopLogger(), cfg.DefaultLogLevel); err != nil {
		return fmt.Errorf("log_level = %q: %w", c.LogLevel, err)
	}
	if !plainText(c.Moniker) {
		return fmt.Errorf("moniker = %q, want printable ASCII", c.Moniker)
	}
	if err := checkAddresses(c.P2P.ListenAddress, c.RPC.ListenAddress); err != nil {
		return err
	}

	if a := c.PrivValidatorListenAddr; a != "" && !hasScheme(a, "tcp", "unix", "noise") {
		return fmt.Errorf("priv_validator_laddr = %q, want tcp://host:port, unix://path or noise://peer@host:port", a)
	}

	if err := checkPeerLists(c); err != nil {
		return err
	}

	for id := range Listed(c.P2P.UnconditionalPeerIDs) {
		if _, err := p2p.NewNetAddressString(id + "@127.0.0.1:1"); err != nil {
			return fmt.Errorf("unconditional_peer_ids: %q, want the 40 hexadecimal digits of a node id", id)
		}
	}

	return nil
}

// checkPeerLists returns an error for an invalid address in the lists of peers.
func checkPeerLists(c *cfg.Config) error {
	for _, l := range []struct{ name, list string }{{"persistent_peers", c.P2P.PersistentPeers},
		{"seeds", c.P2P.Seeds}} {
		for peer := range Listed(l.list) {
			if err := checkPeer(peer); err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
		}
	}

	return nil
}

// hasScheme reports whether an address begins with one of the schemes.
func hasScheme(addr string, schemes ...string) bool {
	for _, s := range schemes {
		if rest, ok := strings.CutPrefix(addr, s+"://"); ok && rest != "" {
			return true
		}
	}
	return false
}

// Listed returns the elements of a list as CometBFT reads them.
func Listed(list string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for e := range strings.SplitSeq(list, ",") {
			if e = strings.Trim(e, " "); e != "" && !yield(e) {
				return
			}
		}
	}
}

// checkPeer returns an error for an invalid address of a peer. It neither looks up the name in the
// address nor dials it.
func checkPeer(peer string) error {
	bare := peer
	if _, rest, ok := strings.Cut(peer, "://"); ok {
		bare = rest
	}

	id, addr, ok := strings.Cut(bare, "@")
	if ok {
		_, err := p2p.NewNetAddressString(id + "@127.0.0.1:1")
		ok = err == nil
	}

	if !ok {
		return fmt.Errorf("%q, want id@host:port with an id of 40 hexadecimal digits", peer)
	}
	if err := checkHostPort(addr); err != nil {
		return fmt.Errorf("%q, want id@host:port: %w", peer, err)
	}

	return nil
}

// checkAddresses returns an error for addresses that CometBFT cannot listen on. rpc may be a list,
// or empty.
func checkAddresses(peers, rpc string) error {
	p, err := tcpAddress(peers)
	if err == nil && p == "" {
		err = errors.New("want tcp://host:port")
	}
	if err == nil && strings.HasPrefix(p, ":") {
		err = errors.New("there is no host in it: 0.0.0.0 stands for all addresses of this machine")
	}
	if err != nil {
		return fmt.Errorf("[p2p] laddr = %q: %w", peers, err)
	}

	for addr := range Listed(rpc) {
		r, err := tcpAddress(addr)
		if err == nil && r != "" && overlap(p, r) {
			err = fmt.Errorf("[p2p] laddr is the same: each wants a port of its own")
		}
		if err != nil {
			return fmt.Errorf("[rpc] laddr = %q: %w", rpc, err)
		}
	}

	return nil
}

// tcpAddress returns the host:port of an address in CometBFT's form, or "" for a unix socket.
func tcpAddress(addr string) (string, error) {
	proto, rest, ok := strings.Cut(addr, "://")
	switch {
	case !ok:
		rest = addr
	case proto == "unix":
		return "", nil
	case proto != "tcp":
		return "", fmt.Errorf("protocol %q, want tcp://host:port", proto)
	}

	return rest, checkHostPort(rest)
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$`)

// checkHostPort returns an error for an address that is not host:port. The host may be empty.
func checkHostPort(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q, want host:port", addr)
	}
	ip, _, _ := strings.Cut(host, "%")
	if host != "" && net.ParseIP(ip) == nil && !hostName.MatchString(host) {
		return fmt.Errorf("%q is not a host", host)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q, want 0 to 65535", port)
	}

	return nil
}

// overlap reports whether a process cannot listen on both a and b, each host:port.
func overlap(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	if portA != portB || portA == "0" {
		return false
	}
	all := func(host string) bool { return host == "" || net.ParseIP(host).IsUnspecified() }
	return hostA == hostB || all(hostA) || all(hostB)
}

// plainText reports whether CometBFT can send a text to its peers.
func plainText(s string) bool {
	for _, b := range []byte(s) {
		if b < ' ' || b > '~' {
			return false
		}
	}
	return strings.TrimSpace(s) != ""
}

// checkKeys returns an error for a missing or invalid key of the node or the validator.
func checkKeys(c *cfg.Config) error {
	if err := whole(c.RootDir, c.NodeKeyFile()); err != nil {
		return err
	}
	node, err := p2p.LoadNodeKey(c.NodeKeyFile())
	if err == nil {
		err = checkKey(node.PrivKey)
	}
	if err != nil {
		return fmt.Errorf("node key: %w", withPath(c.NodeKeyFile(), err))
	}

	if c.PrivValidatorListenAddr != "" {
		return nil // the remote signer has the validator's key
	}

	return checkValidatorKey(c)
}

func checkValidatorKey(c *cfg.Config) error {
	var own privval.FilePVKey
	data, err := os.ReadFile(c.PrivValidatorKeyFile())
	if err == nil {
		err = cmtjson.Unmarshal(data, &own)
	}
	if err == nil {
		err = checkKey(own.PrivKey)
	}
	if err == nil && (own.PubKey == nil || !own.PrivKey.PubKey().Equals(own.PubKey)) {
		err = errors.New("pub_key is not that of priv_key")
	}
	if err == nil && !bytes.Equal(own.Address, own.PubKey.Address()) {
		err = fmt.Errorf("address %s is not that of pub_key, which is %s", own.Address, own.PubKey.Address())
	}
	if err != nil {
		return fmt.Errorf("validator key: %w", withPath(c.PrivValidatorKeyFile(), err))
	}

	return nil
}

func checkKey(key crypto.PrivKey) error {
	if k, ok := key.(ed25519.PrivKey); !ok || len(k) != ed25519.PrivateKeySize {
		return fmt.Errorf("there is no private key of kind %s in it", ed25519.PrivKeyName)
	}

	// The second half of a key is its public part. If it is another, every signature is invalid.
	if whole := goed25519.NewKeyFromSeed(key.Bytes()[:goed25519.SeedSize]); !bytes.Equal(whole, key.Bytes()) {
		return errors.New("the private key in it is damaged: its public part does not belong to it")
	}
	return nil
}

// checkSigning returns an error for a missing or empty signing state. A fresh signing state is
// neither: it has height 0.
func checkSigning(path string) error {
	var s struct {
		Height *int64 `json:"height,string"`
	}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err == nil && s.Height == nil {
		err = errors.New("there is no height in it")
	}
	if err == nil {
		err = cmtjson.Unmarshal(data, new(privval.FilePVLastSignState))
	}
	if err != nil {
		return signingError(path, err)
	}

	return nil
}

// signingError returns err, of reading the signing state at path, as ErrSigning, unless it is the
// operating system's.
func signingError(path string, err error) error {
	switch err = withPath(path, err); {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrHome, err)
	case syserr.Is(err):
		return err
	}
	return fmt.Errorf("%w: %w; without it this validator could sign twice: put the file back as it was last, "+
		"never an older copy, or make a new home with a new validator key", ErrSigning, err)
}

// withPath adds path to err, unless err already names a path.
func withPath(path string, err error) error {
	if inPath := new(os.PathError); errors.As(err, &inPath) {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}
