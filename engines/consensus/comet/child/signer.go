package child

import (
	"context"
	"errors"
	"fmt"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto"
	cmtlog "github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	"github.com/cometbft/cometbft/types"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// signerWait is how long one wait for a remote signer takes; afterwards the next one begins.
const signerWait = time.Second

// Attempts of one signature of a remote signer, as CometBFT makes them.
const (
	signerRetries = 50
	signerPause   = 100 * time.Millisecond
)

// signerOf returns the signer of a home's CometBFT, and its key if the home has it. If a remote
// signer has it, signerOf waits for the signer until ctx ends, and says so. (CometBFT itself waits
// for three seconds, and ends.)
func signerOf(ctx context.Context, c *cfg.Config, key *p2p.NodeKey, f *peerFacts,
	log cmtlog.Logger) (types.PrivValidator, crypto.PubKey, error) {
	if c.PrivValidatorListenAddr != "" {
		signer, err := remoteSigner(ctx, c, key, f, log)
		return signer, nil, err
	}

	pv := privval.LoadFilePV(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile())
	own, err := pv.GetPubKey()

	return pv, own, err
}

func remoteSigner(ctx context.Context, c *cfg.Config, key *p2p.NodeKey, f *peerFacts,
	log cmtlog.Logger) (types.PrivValidator, error) {
	doc, err := comethome.ReadGenesisDoc(c.GenesisFile())
	if err != nil {
		return nil, err
	}
	listener, err := privval.NewSignerListenerFromAddr(c.PrivValidatorListenAddr, key.PrivKey, log)
	if err != nil {
		return nil, fmt.Errorf("priv_validator_laddr = %q: %w", c.PrivValidatorListenAddr, err)
	}
	client, err := privval.NewSignerClient(listener, doc.ChainID)
	if err != nil {
		return nil, err
	}

	for {
		err := client.WaitForConnection(signerWait)
		if err == nil {
			if _, err = client.GetPubKey(); err == nil {
				break
			}
		}
		if ctx.Err() != nil {
			return nil, errors.Join(context.Cause(ctx), client.Close())
		}

		f.notices.tell(SignerAway, c.PrivValidatorListenAddr, "no remote signer has connected to %s, and this "+
			"validator does not start without it (%v): start it, 'coppice keys signer --connect %[1]s "+
			"--chain-id %[3]s' "+
			"for one of ours",
			c.PrivValidatorListenAddr, err, doc.ChainID)
	}

	c.PrivValidatorListenAddr = "" // CometBFT need not wait for it

	return privval.NewRetrySignerClient(client, signerRetries, signerPause), nil
}
