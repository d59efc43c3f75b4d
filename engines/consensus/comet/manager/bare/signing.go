package bare

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/cometbft/cometbft/crypto"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/privval"
	"github.com/cometbft/cometbft/types"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/internal/durable"
)

// Signing says what became of a home's signing state. The zero Signing means that nothing became of
// it, or that a remote signer has it.
type Signing struct {
	// Zeroed reports whether the validator begins to sign from nothing. That is so for a chain id
	// with which its key has never signed. If Alone is set, it is so because the key is that of the
	// only validator, which the kept state would stop for ever.
	Zeroed, Alone bool

	// Returned reports whether the state is the one with which the key last signed on this chain.
	Returned bool

	// Height is the height up to which the validator signs nothing more.
	Height int64

	// Waits reports whether the chain begins, or was changed, and Height is not below its initial
	// height. If all validators of the chain are so, the chain cannot move.
	Waits bool
}

// The kept signing states lie beside the home, in <home>.signing/<address of the key>: one file for
// each chain id, and one that names the chain to which the state in the home belongs. CometBFT's
// own file does not say it.
//
// A change of the state makes three steps in this order: the state in the home is kept under its
// chain, the new state is written, the new chain is named. After a crash between two of them the
// next start repeats them. It may then keep the new state under the old chain too. That is safe,
// because a state is only ever kept if it is further than the one that is kept already.

const (
	chainPrefix = "chain-"
	currentFile = "current.json"
	resetFile   = "reset.json"
	jsonSuffix  = ".json"
)

// current is the content of currentFile.
type current struct {
	ChainID string `json:"chain_id"`
}

// claim notes, the first time that the home is opened, to which chain its signing state belongs.
func (h *Home) claim(doc *types.GenesisDoc) error {
	k, err := h.kept()
	if err != nil || k.dir == "" {
		return err
	}
	was, err := k.current()
	if err != nil || was != "" {
		return err
	}
	return k.setCurrent(doc.ChainID)
}

// kept returns the kept states of the home's key. They have no directory if a remote signer has the
// key.
func (h *Home) kept() (kept, error) {
	c, err := h.Config()
	if err != nil {
		return kept{}, err
	}
	own, err := h.own()
	if err != nil || own == nil || c.PrivValidatorListenAddr != "" {
		return kept{}, err
	}
	return kept{dir: filepath.Join(h.signing, own.String()), file: c.PrivValidatorStateFile(), own: own}, nil
}

// adopt makes the signing state of the home that of a chain, by the rule of the package comment of
// manager. fresh reports whether the chain has no blocks in the home.
func (h *Home) adopt(doc *types.GenesisDoc, fresh bool) (Signing, error) {
	k, err := h.kept()
	if err != nil || k.dir == "" {
		return Signing{}, err
	}
	was, err := k.current()
	if err != nil {
		return Signing{}, err
	}
	if was == "" { // the key is new since the home was opened
		was = doc.ChainID
	}

	held, height, err := k.read()
	if err != nil {
		return Signing{}, err
	}
	if err := k.keep(was, held); err != nil {
		return Signing{}, err
	}

	next, s, err := k.choose(was, doc, held, height)
	if err != nil {
		return Signing{}, err
	}

	alone := len(doc.Validators) == 1 && bytes.Equal(doc.Validators[0].PubKey.Address(), k.own)
	if fresh && alone && s.Height >= doc.InitialHeight {
		next, s = zero(), Signing{Zeroed: true, Alone: true}
	}

	// A start that goes on with its chain waits for nothing: its blocks are as far as the state.
	s.Waits = (fresh || was != doc.ChainID) && s.Height >= doc.InitialHeight
	if string(next) != string(held) {
		if err := replace(k.file, next); err != nil {
			return Signing{}, err
		}
	}

	return s, k.setCurrent(doc.ChainID)
}

// choose returns the state for a chain, when the state in the home belongs to the chain was.
func (k kept) choose(was string, doc *types.GenesisDoc, held []byte, height int64) ([]byte, Signing, error) {
	if was == doc.ChainID {
		return held, Signing{Height: height}, nil
	}

	returned, at, err := k.of(doc.ChainID)

	switch {
	case err != nil:
		return nil, Signing{}, err
	case returned != nil:
		return returned, Signing{Returned: true, Height: at}, nil
	case height < doc.InitialHeight:
		return held, Signing{Height: height}, nil
	}

	return zero(), Signing{Zeroed: true}, nil
}

// zero returns the signing state of a validator that has signed nothing.
func zero() []byte { return []byte("{\n  \"height\": \"0\",\n  \"round\": 0,\n  \"step\": 0\n}") }

// kept is the directory of the kept signing states of one key, and the file of the state in use.
type kept struct {
	dir, file string
	own       crypto.Address
}

func (k kept) path(chainID string) string {
	return filepath.Join(k.dir, chainPrefix+url.PathEscape(chainID)+jsonSuffix)
}

// read returns the state in the home, and its height.
func (k kept) read() ([]byte, int64, error) {
	data, err := os.ReadFile(k.file)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w; without it this validator could sign twice: put the file back as it was "+
			"last, never an older copy", comethome.ErrSigning, err)
	}
	s, err := parseState(data)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %s: %w", comethome.ErrSigning, k.file, err)
	}
	return data, s.Height, nil
}

// of returns the state that is kept for a chain, and its height. It is nil if none is kept.
func (k kept) of(chainID string) ([]byte, int64, error) {
	data, err := os.ReadFile(k.path(chainID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", comethome.ErrSigning, err)
	}
	s, err := parseState(data)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %s: %w", comethome.ErrSigning, k.path(chainID), err)
	}
	return data, s.Height, nil
}

// keep keeps a state for a chain, unless it is that of a key that has signed nothing, or the one
// that is kept is as far.
func (k kept) keep(chainID string, data []byte) error {
	s, err := parseState(data)
	if err != nil {
		return err
	}
	if s.Height == 0 && s.Round == 0 && s.Step == 0 {
		return nil
	}

	before, _, err := k.of(chainID)
	if err != nil {
		return err
	}
	if before != nil {
		old, err := parseState(before)
		if err != nil {
			return err
		}
		if !further(s, old) {
			return nil
		}
	}

	return k.write(k.path(chainID), data)
}

func further(a, b privval.FilePVLastSignState) bool {
	switch {
	case a.Height != b.Height:
		return a.Height > b.Height
	case a.Round != b.Round:
		return a.Round > b.Round
	default:
		return a.Step > b.Step
	}
}

func (k kept) current() (string, error) {
	data, err := os.ReadFile(filepath.Join(k.dir, currentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	var c current
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", comethome.ErrSigning, filepath.Join(k.dir, currentFile), err)
	}
	return c.ChainID, nil
}

func (k kept) setCurrent(chainID string) error {
	if was, err := k.current(); err != nil || was == chainID {
		return err
	}
	data, err := json.Marshal(current{chainID})
	if err != nil {
		return err
	}
	return k.write(filepath.Join(k.dir, currentFile), data)
}

func (k kept) write(path string, data []byte) error {
	if err := makeDir(k.dir); err != nil {
		return err
	}
	return replace(path, data)
}

// makeDir makes a directory and its parent, with durable names.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("%w: %w", comethome.ErrHome, err)
	}
	parent := filepath.Dir(dir)
	if err := errors.Join(durable.OS.SyncDir(parent), durable.OS.SyncDir(filepath.Dir(parent))); err != nil {
		return fmt.Errorf("%w: %w", comethome.ErrHome, err)
	}
	return nil
}

func parseState(data []byte) (s privval.FilePVLastSignState, err error) {
	if err := cmtjson.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("not a signing state: %w", err)
	}
	return s, nil
}
