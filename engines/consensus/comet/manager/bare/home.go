package bare

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto"
	"github.com/cometbft/cometbft/types"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/internal/durable"
)

// Home is a bare CometBFT home.
type Home struct {
	dir     string
	signing string // the directory of the kept signing states
}

// signingSuffix is the suffix of the directory beside a home that has its kept signing states.
const signingSuffix = ".signing"

// Open returns the home in dir. If dir has none, Open makes one, as CometBFT's init does: with new
// keys, and a genesis whose only validator is this one.
func Open(dir string) (*Home, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if owned(dir) {
		return nil, fmt.Errorf("%w: %s belongs to the node in %s, whose state would be ahead of a chain without its "+
			"blocks: want a CometBFT home without a node", comethome.ErrHome, dir, filepath.Dir(dir))
	}

	h := &Home{dir: dir, signing: dir + signingSuffix}
	if _, err := os.Stat(filepath.Join(dir, cfg.DefaultConfigDir)); errors.Is(err, fs.ErrNotExist) {
		if err := h.init(); err != nil {
			return nil, err
		}
	}

	if _, err := h.Config(); err != nil {
		return nil, err
	}
	doc, err := h.Genesis()
	if err != nil {
		return nil, err
	}
	if err := h.claim(doc); err != nil {
		return nil, err
	}

	return h, h.finish()
}

// owned reports whether a directory is the CometBFT home of one of our nodes.
func owned(dir string) bool {
	_, err := os.Stat(filepath.Join(filepath.Dir(dir), "coppice.toml"))
	return err == nil && comethome.Dir(filepath.Dir(dir)) == dir
}

// init makes the files of a home.
func (h *Home) init() error {
	id, err := comethome.Init(h.dir, comethome.Options{Profile: comethome.Stock})
	if err != nil {
		return err
	}
	if err := comethome.EditConfig(h.dir, comethome.Setting{Section: "consensus", Key: "create_empty_blocks",
		Value: "true"}, comethome.Text("", "log_level", "info")); err != nil {
		return err
	}

	id.Validator.Power = 10
	name := make([]byte, 3)
	copy(name, id.Validator.PubKey)

	return comethome.WriteGenesis(h.dir, comethome.Genesis{ChainID: "test-chain-" + hex.EncodeToString(name),
		InitialHeight: 1, Validators: []comethome.Validator{id.Validator}})
}

// Dir returns the directory of the home.
func (h *Home) Dir() string { return h.dir }

// Config reads the configuration.
func (h *Home) Config() (*cfg.Config, error) { return comethome.ReadConfig(h.dir) }

// Genesis reads the genesis.
func (h *Home) Genesis() (*types.GenesisDoc, error) {
	return comethome.ReadGenesisDoc(comethome.GenesisPath(h.dir))
}

// ForStart makes the home ready for a start of CometBFT: nobody is dialled but the persistent
// peers, and the signing state is that of the genesis' chain.
func (h *Home) ForStart() (Signing, error) {
	err := comethome.EditConfig(h.dir,
		comethome.Setting{Section: "p2p", Key: "pex", Value: "false"},
		comethome.Setting{Section: "p2p", Key: "max_num_outbound_peers", Value: "0"})
	if err != nil {
		return Signing{}, err
	}
	doc, err := h.Genesis()
	if err != nil {
		return Signing{}, err
	}
	return h.adopt(doc, false)
}

// Identity is what others know of the home: the public part of its validator key, with the names
// that CometBFT gives its fields, and its id as a peer.
type Identity struct {
	Address string          `json:"address"`
	PubKey  json.RawMessage `json:"pub_key"`
	PeerID  string          `json:"peer_id"`
}

// IdentityOf reads the identity of the home in dir. The private key does not leave this function.
func IdentityOf(dir string) (Identity, error) {
	id, err := comethome.ReadIdentity(dir)
	if err != nil {
		return Identity{}, err
	}
	if len(id.Validator.PubKey) == 0 {
		return Identity{}, fmt.Errorf("%w: a remote signer has the validator key of %s", comethome.ErrHome, dir)
	}
	key, err := json.Marshal(map[string]any{"type": keyType, "value": id.Validator.PubKey})
	return Identity{Address: strings.ToUpper(id.Validator.Address), PubKey: key, PeerID: id.NodeID}, err
}

// own returns the validator key of the home; it is nil if a remote signer has it.
func (h *Home) own() (crypto.Address, error) {
	id, err := comethome.ReadIdentity(h.dir)
	if err != nil || len(id.Validator.PubKey) == 0 {
		return nil, err
	}
	return hex.DecodeString(id.Validator.Address)
}

// replace makes a file of the home hold data.
func replace(path string, data []byte) error {
	if err := durable.OS.Replace(path, data, 0o600); err != nil {
		return fmt.Errorf("%w: %w", comethome.ErrHome, err)
	}
	return nil
}
