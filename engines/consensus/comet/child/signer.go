package child

import (
	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto"
	"github.com/cometbft/cometbft/privval"
	"github.com/cometbft/cometbft/types"
)

// signerOf returns the signer that a home's CometBFT begins with, and its key. With a remote signer
// the key is not known yet, and CometBFT puts the remote signer in the place of the one returned.
func signerOf(c *cfg.Config) (types.PrivValidator, crypto.PubKey, error) {
	if c.PrivValidatorListenAddr != "" {
		return privval.GenFilePV("", ""), nil, nil // never written, and never asked for a signature
	}

	pv := privval.LoadFilePV(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile())
	own, err := pv.GetPubKey()

	return pv, own, err
}
