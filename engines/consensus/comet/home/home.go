package home

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	"github.com/cometbft/cometbft/types"

	"github.com/coppice-go/coppice/engines/consensus"
)

// Identity holds the names and keys under which other nodes know a home.
type Identity struct {
	NodeID    string    // for peers: NodeID@host:port
	Validator Validator // without power, which the genesis sets
}

// Validator is one member of a validator set.
type Validator struct {
	Name    string
	Address string // hexadecimal
	PubKey  []byte // ed25519
	Power   int64
}

// Init makes a CometBFT home with new keys and a configuration, but no genesis. It overwrites
// nothing.
func Init(home string, o Options) (Identity, error) {
	var none Identity
	if _, err := os.Stat(configPath(home)); err == nil {
		return none, fmt.Errorf("%w: %s exists already", ErrHome, home)
	}
	c := newConfig(o).SetRoot(home)
	if err := errors.Join(c.ValidateBasic(), settings(c)); err != nil {
		return none, fmt.Errorf("%w: %w", ErrHome, err)
	}

	for _, dir := range []string{cfg.DefaultConfigDir, cfg.DefaultDataDir} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
			return none, fmt.Errorf("%w: %w", ErrHome, err)
		}
	}

	if _, err := p2p.LoadOrGenNodeKey(c.NodeKeyFile()); err != nil {
		return none, fmt.Errorf("%w: node key: %w", ErrHome, err)
	}
	if err := caught(privval.GenFilePV(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile()).Save); err != nil {
		return none, fmt.Errorf("%w: validator key: %w", ErrHome, err)
	}
	if err := writeConfig(home, c); err != nil {
		return none, fmt.Errorf("%w: %w", ErrHome, err)
	}

	return ReadIdentity(home)
}

// caught calls write and returns its panic as an error. CometBFT panics if it cannot write a file.
func caught(write func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	write()
	return nil
}

// ReadIdentity reads the identity of a home. It returns no private key.
func ReadIdentity(home string) (Identity, error) {
	c, said, err := readConfig(home) // the identity does not depend on whether CometBFT could run
	if err != nil {
		return Identity{}, err
	}
	if err := checkSaid(said); err != nil {
		return Identity{}, fmt.Errorf("%w: %s: %w", ErrHome, configPath(home), err)
	}
	return identityOf(c)
}

func identityOf(c *cfg.Config) (Identity, error) {
	if err := whole(c.RootDir, c.NodeKeyFile()); err != nil {
		return Identity{}, err
	}
	key, err := p2p.LoadNodeKey(c.NodeKeyFile())
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrHome, err)
	}
	if c.PrivValidatorListenAddr != "" { // the remote signer has the key, and this home may have an old one
		return Identity{NodeID: string(key.ID()), Validator: Validator{Name: c.Moniker}}, nil
	}
	data, err := os.ReadFile(c.PrivValidatorKeyFile())
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrHome, err)
	}
	var public struct {
		Address string `json:"address"`
		PubKey  struct {
			Type  string `json:"type"`
			Value []byte `json:"value"`
		} `json:"pub_key"`
	}

	if err := json.Unmarshal(data, &public); err != nil {
		return Identity{}, fmt.Errorf("%w: %s: %w", ErrHome, c.PrivValidatorKeyFile(), err)
	}

	if public.PubKey.Type != ed25519.PubKeyName || len(public.PubKey.Value) != ed25519.PubKeySize {
		return Identity{}, fmt.Errorf("%w: %s: a key of kind %q and %d bytes, want %s", ErrHome,
			c.PrivValidatorKeyFile(), public.PubKey.Type, len(public.PubKey.Value), ed25519.PubKeyName)
	}

	return Identity{
		NodeID:    string(key.ID()),
		Validator: Validator{Name: c.Moniker, Address: public.Address, PubKey: public.PubKey.Value},
	}, nil
}

// Addresses returns where the CometBFT of a home listens, as host:port.
func Addresses(home string) (p2pAddr, rpcAddr string, err error) {
	c, err := LoadConfig(home)
	if err != nil {
		return "", "", err
	}
	return hostPort(c.P2P.ListenAddress), hostPort(c.RPC.ListenAddress), nil
}

// ErrGenesis is the error if the genesis of CometBFT and the genesis of the home do not match.
var ErrGenesis = errors.New("CometBFT's genesis and the home's genesis are of different chains")

// ErrGenesisEdited is the error if the genesis of CometBFT is not the one that its chain began
// with.
var ErrGenesisEdited = errors.New("CometBFT's genesis was edited after the chain began")

// KeyEd25519 is the only kind of validator key.
const KeyEd25519 = "ed25519"

// Genesis is CometBFT's genesis, which the nodes of a chain share.
type Genesis struct {
	ChainID       string
	Time          time.Time
	InitialHeight uint64
	Validators    []Validator

	// MaxBlockBytes bounds the transactions of a block.
	MaxBlockBytes uint64

	// VoteExtensionsHeight is the first height at which votes are extended; 0 means never.
	VoteExtensionsHeight uint64

	// AppState is our own genesis, as JSON. Every node of the chain must have the same limits.
	AppState json.RawMessage
}

// blockOverhead bounds the parts of a block other than its transactions: header, commit, evidence.
const blockOverhead = 2 << 20

// WriteGenesis writes the genesis of a home, whole or not at all. It replaces an existing one. A
// home whose chain has begun does not read it again.
func WriteGenesis(home string, g Genesis) error {
	doc, err := genesisDoc(g)
	if err != nil {
		return err
	}
	return saveGenesis(home, doc)
}

// documentOf returns a genesis in the form of CometBFT's file.
func documentOf(g Genesis) ([]byte, error) {
	doc, err := genesisDoc(g)
	if err != nil {
		return nil, err
	}
	return cmtjson.Marshal(doc)
}

func genesisDoc(g Genesis) (*types.GenesisDoc, error) {
	doc := types.GenesisDoc{
		ChainID: g.ChainID, GenesisTime: g.Time, InitialHeight: int64(max(g.InitialHeight, 1)),
		ConsensusParams: types.DefaultConsensusParams(), AppState: g.AppState,
	}

	if g.MaxBlockBytes > 0 {
		doc.ConsensusParams.Block.MaxBytes = int64(min(g.MaxBlockBytes+blockOverhead, types.MaxBlockSizeBytes))
		doc.ConsensusParams.Evidence.MaxBytes = min(doc.ConsensusParams.Evidence.MaxBytes, blockOverhead/2)
	}

	doc.ConsensusParams.ABCI.VoteExtensionsEnableHeight = int64(g.VoteExtensionsHeight)

	for _, v := range g.Validators {
		key := ed25519.PubKey(v.PubKey)
		doc.Validators = append(doc.Validators,
			types.GenesisValidator{Address: key.Address(), PubKey: key, Power: v.Power, Name: v.Name})
	}

	if err := doc.ValidateAndComplete(); err != nil {
		return nil, fmt.Errorf("%w: genesis: %w", ErrHome, err)
	}

	return &doc, nil
}

func saveGenesis(home string, doc *types.GenesisDoc) error {
	path := GenesisPath(home)
	next := path + ".new"
	if err := doc.SaveAs(next); err != nil {
		return fmt.Errorf("%w: genesis: %w", ErrHome, err)
	}
	return replace(next, path)
}

// GenesisPath returns the path of the genesis file of a CometBFT home.
func GenesisPath(home string) string {
	return filepath.Join(home, cfg.DefaultConfigDir, cfg.DefaultGenesisJSONName)
}

// ReadGenesis reads the genesis of a home.
func ReadGenesis(home string) (Genesis, error) {
	if err := whole(home, GenesisPath(home)); err != nil {
		return Genesis{}, err
	}
	doc, err := ReadGenesisDoc(GenesisPath(home))
	if err != nil {
		return Genesis{}, err
	}
	return genesisOf(doc)
}

func genesisOf(doc *types.GenesisDoc) (Genesis, error) {
	g := Genesis{
		ChainID: doc.ChainID, Time: doc.GenesisTime, InitialHeight: uint64(doc.InitialHeight), AppState: doc.AppState,
		VoteExtensionsHeight: uint64(doc.ConsensusParams.ABCI.VoteExtensionsEnableHeight),
	}
	n := doc.ConsensusParams.Block.MaxBytes
	if n < 0 { // as large as CometBFT allows
		n = types.MaxBlockSizeBytes
	}
	if g.MaxBlockBytes = uint64(n); n > blockOverhead {
		g.MaxBlockBytes -= blockOverhead
	}

	for _, v := range doc.Validators {
		if v.PubKey.Type() != KeyEd25519 {
			return Genesis{}, fmt.Errorf("%w: genesis: validator %q has a key of kind %s, want %s", ErrHome, v.Name,
				v.PubKey.Type(), KeyEd25519)
		}
		g.Validators = append(g.Validators,
			Validator{Name: v.Name, Address: v.PubKey.Address().String(), PubKey: v.PubKey.Bytes(), Power: v.Power})
	}

	return g, nil
}

var (
	// ErrChainData is the error if CometBFT's chain is gone but the state that it led to is there.
	ErrChainData = errors.New("CometBFT's chain data is missing")

	// ErrChainDamage is the error if CometBFT's chain cannot be read, or does not lead to the state
	// of the home.
	ErrChainDamage = errors.New("CometBFT's chain data is damaged, or from another time than the home's")
)

// Class returns the class of an error about a CometBFT home.
func Class(err error) consensus.Class {
	switch {
	case errors.Is(err, ErrChainData), errors.Is(err, ErrChainDamage), errors.Is(err, ErrSigning),
		errors.Is(err, ErrSigningOld), errors.Is(err, ErrSigningAhead):
		return consensus.Damage
	case errors.Is(err, ErrHome), errors.Is(err, ErrGenesis), errors.Is(err, ErrGenesisEdited),
		errors.Is(err, ErrNetwork):
		return consensus.Config
	}
	return consensus.None
}
