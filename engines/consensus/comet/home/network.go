package home

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtjson "github.com/cometbft/cometbft/libs/json"

	"github.com/coppice-go/coppice/engines/chain"
)

// Member is what one machine contributes to the network of a new chain. It is public.
type Member struct {
	Moniker string `json:"moniker"`
	NodeID  string `json:"node_id"`
	Peer    string `json:"peer"`    // node id@host:port, as others reach it
	PubKey  []byte `json:"pub_key"` // ed25519; base64 in JSON
	Power   int64  `json:"power"`   // 0: a node that is no validator

	// Agent is the machine's agent of the chain's service of rounds; nil: it has none. Its
	// Validator is left empty: it is the member's.
	Agent *chain.Agent `json:"agent,omitempty"`
}

// Check returns an error for a member without a valid address, key or power.
func (m Member) Check() error {
	if id, _, _ := strings.Cut(m.Peer, "@"); id != m.NodeID || checkPeer(m.Peer) != nil {
		return fmt.Errorf("%w: member %q: peer %q, want %s@host:port", ErrNetwork, m.Moniker, m.Peer, m.NodeID)
	}
	if m.Power < 0 || m.Power > 0 && len(m.PubKey) != ed25519.PubKeySize {
		return fmt.Errorf("%w: member %q: power %d and a key of %d bytes, want a power of 0 or more and "+
			"a key of %d bytes",
			ErrNetwork, m.Moniker, m.Power, len(m.PubKey), ed25519.PubKeySize)
	}
	if m.Agent != nil && m.Agent.Validator != "" {
		return fmt.Errorf("%w: member %q: agent %q names validator %s, want none: it is the member's", ErrNetwork,
			m.Moniker, m.Agent.Name, m.Agent.Validator)
	}
	return nil
}

// agent returns the member's agent as genesis.json registers it.
func (m Member) agent() chain.Agent {
	a := *m.Agent
	if m.Power != 0 {
		a.Validator = ed25519.PubKey(m.PubKey).Address().String()
	}
	return a
}

// GenesisSum returns a sum of a genesis in CometBFT's form, in hexadecimal. The layout of the file
// does not count.
func GenesisSum(doc []byte) (string, error) {
	g, err := ParseGenesis(doc)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNetwork, err)
	}
	whole, err := cmtjson.Marshal(g)
	return fmt.Sprintf("%x", sha256.Sum256(whole)), err
}

// NetworkFile is the network of a new chain: what every machine gets.
type NetworkFile struct {
	Genesis json.RawMessage `json:"genesis"` // CometBFT's, with ours as its app_state
	Peers   []string        `json:"peers"`   // of all members
}

// ErrNetwork is the error for members, or a network, that no chain can begin with.
var ErrNetwork = errors.New("network")

// Collect makes the network of the members, whose chain begins with a genesis of ours. The agents
// of the members are added to those of the genesis. Errors wrap ErrNetwork.
func Collect(ours chain.Genesis, members []Member) (NetworkFile, error) {
	bad := func(format string, args ...any) (NetworkFile, error) {
		return NetworkFile{}, fmt.Errorf("%w: %w", ErrNetwork, fmt.Errorf(format, args...))
	}

	var n NetworkFile
	var set []Validator
	seen := make(map[string]string)

	for _, m := range members {
		if err := m.Check(); err != nil {
			return NetworkFile{}, err
		}
		id, addr, _ := strings.Cut(m.Peer, "@")

		for _, own := range []struct{ what, value string }{{"node id", id}, {"address", addr},
			{"validator key", string(m.PubKey)}} {
			if other, twice := seen[own.what+own.value]; twice && own.value != "" {
				return bad("members %q and %q have one %s: was a home copied?", other, m.Moniker, own.what)
			}
			seen[own.what+own.value] = m.Moniker
		}

		n.Peers = append(n.Peers, m.Peer)
		if m.Power != 0 {
			set = append(set, Validator{Name: m.Moniker, PubKey: m.PubKey, Power: m.Power})
		}
		if m.Agent != nil {
			ours.Agents = append(slices.Clip(ours.Agents), m.agent())
		}
	}

	if len(set) == 0 {
		return bad("no member has a power above 0, so the chain would have no validator")
	}

	if _, err := ours.ChainStarted(); err != nil {
		return bad("%w", err)
	}
	theirs, err := carrying(ours, Genesis{Validators: set})
	if err != nil {
		return bad("%w", err)
	}
	doc, err := documentOf(theirs)
	if err != nil {
		return bad("%w", err)
	}
	n.Genesis, err = json.Marshal(json.RawMessage(doc))

	return n, err
}

// ParseNetwork reads a NetworkFile, and returns the genesis of CometBFT and ours in it. Errors wrap
// ErrNetwork.
func ParseNetwork(data []byte) (n NetworkFile, theirs Genesis, ours chain.Genesis, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err = d.Decode(&n); err == nil {
		theirs, err = readGenesisDoc(n.Genesis)
	}
	if err == nil {
		ours, err = Carried("", theirs, "the network")
	}
	if err == nil && ours.ChainID != theirs.ChainID {
		err = fmt.Errorf("it is of %s, a later epoch of chain %q: want that of epoch 0", theirs.ChainID, ours.ChainID)
	}
	if err == nil {
		_, err = ours.ChainStarted()
	}
	for _, p := range n.Peers {
		if err == nil {
			err = checkPeer(p)
		}
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrNetwork, err)
	}

	return n, theirs, ours, err
}

// Install puts the genesis and the peers of a network into a CometBFT home whose chain has not
// begun.
func Install(home string, n NetworkFile) error {
	k, err := ReadKeys(home)
	if err != nil {
		return err
	}
	doc, err := ParseGenesis(n.Genesis)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNetwork, err)
	}

	var others []string
	for _, p := range n.Peers {
		if id, _, _ := strings.Cut(p, "@"); id != k.NodeID {
			others = append(others, p)
		}
	}

	if err := saveGenesis(home, doc); err != nil {
		return err
	}

	return SetNetwork(home, Network{Peers: others})
}

// Problems returns why a chain with this genesis could not begin as it is, or not soon, in words
// for an operator.
func Problems(g Genesis, now time.Time) (out []string) {
	total, largest := int64(0), int64(0)
	for _, v := range g.Validators {
		total += v.Power
		largest = max(largest, v.Power)
	}
	if n := len(g.Validators); n > 1 && 3*(total-largest) <= 2*total {
		out = append(out, fmt.Sprintf("one of the %d validators has %d of %d of the power: without it no block is made",
			n, largest, total))
	}

	switch until := g.Time.Sub(now); {
	case until > 0:
		out = append(out, fmt.Sprintf("the genesis time %v is %v ahead: CometBFT waits until then", g.Time.UTC(),
			until.Round(time.Second)))
	case until < -30*24*time.Hour:
		out = append(out, fmt.Sprintf("the genesis time %v is %v ago", g.Time.UTC(), (-until).Round(time.Hour)))
	}

	return out
}

// AddPeer adds a peer, node id@host:port, to the persistent peers of a home's configuration, if it
// is not among them. A CometBFT that is running does not notice.
func AddPeer(home, peer string) error {
	c, err := LoadConfig(home)
	if err != nil {
		return err
	}
	if err := checkPeer(peer); err != nil {
		return fmt.Errorf("%w: %w", ErrHome, err)
	}

	id, _, _ := strings.Cut(peer, "@")
	var kept []string
	for p := range Listed(c.P2P.PersistentPeers) {
		if other, _, _ := strings.Cut(p, "@"); other != id {
			kept = append(kept, p)
		}
	}
	c.P2P.PersistentPeers = strings.Join(append(kept, peer), ",")

	return writeConfig(home, c)
}
