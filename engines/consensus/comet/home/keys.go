package home

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/types"

	"github.com/coppice-go/coppice/internal/durable"
)

// Keys are the keys of a home and how far the validator has signed. No private key is among them.
type Keys struct {
	Identity

	// Signer is the address at which a remote signer is awaited; empty if the home has the key.
	Signer string

	// Height, Round and Step are those of the newest signature: step 1 is a proposal, 2 a prevote,
	// 3 a precommit.
	Height int64
	Round  int32
	Step   int8
}

// ReadKeys reads the keys of a home.
func ReadKeys(home string) (Keys, error) {
	c, _, err := readConfig(home)
	if err != nil {
		return Keys{}, err
	}
	id, err := identityOf(c)
	if err != nil {
		return Keys{}, err
	}

	k := Keys{Identity: id, Signer: c.PrivValidatorListenAddr}
	if k.Signer != "" {
		return k, nil
	}
	if err := checkSigning(c.PrivValidatorStateFile()); err != nil {
		return Keys{}, err
	}

	s, err := readSigning(c.PrivValidatorStateFile())
	k.Height, k.Round, k.Step = s.Height, s.Round, s.Step

	return k, err
}

func readSigning(path string) (s privval.FilePVLastSignState, err error) {
	data, err := os.ReadFile(path)
	if err == nil {
		err = cmtjson.Unmarshal(data, &s)
	}
	if err != nil {
		return s, signingError(path, err)
	}
	return s, nil
}

// Signed returns the height, round and step of the newest signature of a home's validator. ok is
// false if a remote signer has the key.
func Signed(home string) (height int64, round int32, step int8, ok bool, err error) {
	c, err := LoadConfig(home)
	if err != nil || c.PrivValidatorListenAddr != "" {
		return 0, 0, 0, false, err
	}
	s, err := readSigning(c.PrivValidatorStateFile())
	return s.Height, s.Round, s.Step, true, err
}

// NewNodeKey makes a node key in a home that has none, and returns the node's id.
func NewNodeKey(home string) (string, error) {
	c, _, err := readConfig(home)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(c.NodeKeyFile()); err == nil {
		return "", fmt.Errorf("%w: %s exists already: 'coppice keys rotate node' replaces it", ErrHome, c.NodeKeyFile())
	}
	return makeNodeKey(c)
}

func makeNodeKey(c *cfg.Config) (string, error) {
	key := p2p.NodeKey{PrivKey: ed25519.GenPrivKey()}
	data, err := cmtjson.Marshal(key)
	if err != nil {
		return "", err
	}
	if err := durable.OS.WriteNew(c.NodeKeyFile(), data, 0o600); err != nil {
		return "", fmt.Errorf("%w: %w", ErrHome, err)
	}
	return string(key.ID()), durable.OS.SyncDir(filepath.Dir(c.NodeKeyFile()))
}

// RotateNodeKey replaces the node key of a home that is not running. The old key stays beside it,
// with the old id in its name.
func RotateNodeKey(home string) (old, id string, err error) {
	c, _, err := readConfig(home)
	if err != nil {
		return "", "", err
	}
	key, err := p2p.LoadNodeKey(c.NodeKeyFile())
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrHome, err)
	}

	old = string(key.ID())
	if err := durable.OS.Rename(c.NodeKeyFile(), c.NodeKeyFile()+".of-"+old); err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrHome, err)
	}

	id, err = makeNodeKey(c)

	return old, id, err
}

// Names of the files of a validator key, as in a home.
const (
	ValidatorKeyFile = "priv_validator_key.json"
	SigningStateFile = "priv_validator_state.json"
)

// NewValidatorKey makes a validator key, which has signed nothing, in a directory that has none.
// The two files are those of a home, and those of a remote signer.
func NewValidatorKey(dir string) (Validator, error) {
	key, state := filepath.Join(dir, ValidatorKeyFile), filepath.Join(dir, SigningStateFile)
	for _, path := range []string{key, state} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return Validator{}, fmt.Errorf("%w: %s exists already", ErrHome, path)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Validator{}, fmt.Errorf("%w: %w", ErrHome, err)
	}

	pv := privval.GenFilePV(key, state)
	if err := caught(pv.Save); err != nil {
		return Validator{}, fmt.Errorf("%w: validator key: %w", ErrHome, err)
	}

	return Validator{Address: pv.GetAddress().String(), PubKey: pv.Key.PubKey.Bytes()}, durable.OS.SyncDir(dir)
}

// ErrKeyNeeded is the error if the chain would stand still without the validator key of a home.
var ErrKeyNeeded = errors.New("the chain needs this validator's key")

// RotateValidatorKey puts the validator key of a directory, with its signing state, in place of the
// home's, which must not be running. The old key and its signing state stay beside the new ones,
// with the old address in their names. If the other validators have no quorum without this one, and
// the new key is no validator yet, it returns ErrKeyNeeded unless force is set.
func RotateValidatorKey(home, dir string, force bool) (old, next Validator, err error) {
	c, err := LoadConfig(home)
	if err != nil {
		return old, next, err
	}
	if c.PrivValidatorListenAddr != "" {
		return old, next, fmt.Errorf("%w: %s: priv_validator_laddr is set: the key is the remote signer's", ErrHome,
			configPath(home))
	}
	if err := errors.Join(notRunning(c), Preflight(c)); err != nil {
		return old, next, err
	}

	from := *c
	from.PrivValidatorKey, from.PrivValidatorState = filepath.Join(dir, ValidatorKeyFile),
		filepath.Join(dir, SigningStateFile)
	if err := absolute(&from.PrivValidatorKey, &from.PrivValidatorState); err != nil {
		return old, next, err
	}
	if err := CheckValidatorKey(dir); err != nil {
		return old, next, err
	}

	was, err := identityOf(c)
	if err != nil {
		return old, next, err
	}
	will, err := identityOf(&from)
	if err != nil {
		return old, next, err
	}
	old, next = was.Validator, will.Validator

	if bytes.Equal(old.PubKey, next.PubKey) {
		return old, next, fmt.Errorf("%w: %s has the key that the home has already", ErrHome, dir)
	}
	if !force {
		if err := spares(c, old, next); err != nil {
			return old, next, err
		}
	}

	for _, f := range []struct{ from, to string }{ // the signing state first: a key without it signs nothing
		{from.PrivValidatorStateFile(), c.PrivValidatorStateFile()},
		{from.PrivValidatorKeyFile(), c.PrivValidatorKeyFile()},
	} {
		data, err := os.ReadFile(f.from)
		if err != nil {
			return old, next, fmt.Errorf("%w: %w", ErrHome, err)
		}
		if err := durable.OS.Rename(f.to, f.to+".of-"+old.Address); err != nil {
			return old, next, fmt.Errorf("%w: %w", ErrHome, err)
		}
		if err := durable.OS.WriteNew(f.to, data, 0o600); err != nil {
			return old, next, fmt.Errorf("%w: %w", ErrHome, err)
		}
		if err := durable.OS.SyncDir(filepath.Dir(f.to)); err != nil {
			return old, next, err
		}
	}

	return old, next, nil
}

func absolute(paths ...*string) (err error) {
	for _, p := range paths {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	return nil
}

// spares returns an error if the validators of the next block have no quorum without the old key,
// and the new key is none of them.
func spares(c *cfg.Config, old, next Validator) error {
	set, err := nextValidators(c)
	if err != nil {
		return err
	}

	rest, total := int64(0), int64(0)
	for _, v := range set {
		total += v.VotingPower
		switch {
		case bytes.Equal(v.PubKey.Bytes(), next.PubKey):
			return nil
		case !bytes.Equal(v.PubKey.Bytes(), old.PubKey):
			rest += v.VotingPower
		}
	}

	if len(set) == 0 || rest == total || 3*rest > 2*total {
		return nil
	}

	return fmt.Errorf("%w: without %s the validators have only %d of %d of the power, and the new key is no "+
		"validator: first start the node with the old key and run 'coppice validators update --force %s=POWER %s=0', "+
		"wait until 'coppice validators' shows the new key, and rotate then", ErrKeyNeeded, old.Address, rest, total,
		base64.StdEncoding.EncodeToString(next.PubKey), base64.StdEncoding.EncodeToString(old.PubKey))
}

// nextValidators returns the validators of the next block of a CometBFT that is not running.
func nextValidators(c *cfg.Config) ([]*types.Validator, error) {
	if !exists(filepath.Join(c.DBDir(), "state.db")) {
		g, err := ReadGenesisDoc(c.GenesisFile())
		if err != nil {
			return nil, err
		}
		var set []*types.Validator
		for _, v := range g.Validators {
			set = append(set, types.NewValidator(v.PubKey, v.Power))
		}
		return set, nil
	}

	db, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: "state", Config: c})
	if err != nil {
		return nil, damaged(databaseDir(c, stateDatabase), err)
	}
	defer db.Close()

	s, err := sm.NewStore(db, sm.StoreOptions{}).Load()
	if err != nil {
		return nil, damaged(databaseDir(c, stateDatabase), err)
	}
	if s.Validators == nil {
		return nil, nil
	}

	return s.Validators.Validators, nil
}

// CheckValidatorKey returns an error if a directory lacks a valid validator key or its signing
// state.
func CheckValidatorKey(dir string) error {
	c := cfg.DefaultConfig()
	c.PrivValidatorKey = filepath.Join(dir, ValidatorKeyFile)
	c.PrivValidatorState = filepath.Join(dir, SigningStateFile)
	if err := absolute(&c.PrivValidatorKey, &c.PrivValidatorState); err != nil {
		return err
	}
	if err := checkValidatorKey(c); err != nil {
		return fmt.Errorf("%w: %w", ErrHome, err)
	}
	return checkSigning(c.PrivValidatorStateFile())
}
