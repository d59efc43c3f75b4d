// Package signer is a remote signer: a process that has a validator's key and signing state, on a
// machine of its own, and signs for a CometBFT that waits for it (priv_validator_laddr). It speaks
// CometBFT's protocol for remote signers, so each side also works with those of others.
//
// The signer never signs two different things for one height, round and step, whoever asks: it
// writes its signing state durably before a signature leaves it. One process at a time uses a key.
// The connection of tcp:// is encrypted, but neither side proves to the other who it is; it belongs
// into a private network or a tunnel.
package signer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtlog "github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/privval"
	"github.com/cometbft/cometbft/types"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/internal/flock"
)

// Options describe a signer.
type Options struct {
	// Dir is the directory of the key and its signing state, which comethome.NewValidatorKey makes.
	Dir string

	// ChainID is the only chain that the signer signs for.
	ChainID string

	// Connect is the priv_validator_laddr of the CometBFT to sign for: tcp://host:port or
	// unix://path.
	Connect string
}

// redial is the time between two attempts to reach CometBFT, and readWrite bounds an exchange. The
// CometBFT sends a ping every two thirds of readWrite.
const (
	redial    = 500 * time.Millisecond
	readWrite = 5 * time.Second
)

// Run signs until ctx ends. It waits for a CometBFT that is away. Errors wrap comethome.ErrHome, or
// comethome.ErrSigning if the signing state cannot be read.
func Run(ctx context.Context, o Options) error {
	dial, err := dialler(o.Connect)
	if err != nil {
		return err
	}
	if o.ChainID == "" {
		return fmt.Errorf("%w: no chain id to sign for", comethome.ErrHome)
	}
	if err := comethome.CheckValidatorKey(o.Dir); err != nil {
		return err
	}

	lock, err := flock.TryLock(filepath.Join(o.Dir, "LOCK"))
	if errors.Is(err, flock.ErrLocked) {
		return fmt.Errorf("%w: another signer uses the key in %s", comethome.ErrHome, o.Dir)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", comethome.ErrHome, err)
	}
	defer lock.Close()

	log := cmtlog.NewFilter(cmtlog.NewTMLogger(cmtlog.NewSyncWriter(os.Stderr)), cmtlog.AllowError())
	pv := privval.LoadFilePV(filepath.Join(o.Dir, comethome.ValidatorKeyFile),
		filepath.Join(o.Dir, comethome.SigningStateFile))

	for {
		conn, err := dial()
		if err == nil {
			answer(ctx, conn, o.ChainID, pv, log)
		} else {
			log.Debug("CometBFT is away", "err", err)
		}

		select {
		case <-ctx.Done():
			return nil
		case <-time.After(redial):
		}
	}
}

// answer answers requests on a connection until it or ctx ends.
func answer(ctx context.Context, conn net.Conn, chainID string, pv types.PrivValidator, log cmtlog.Logger) {
	end := privval.NewSignerDialerEndpoint(log, nil, privval.SignerDialerEndpointTimeoutReadWrite(readWrite))
	end.SetConnection(conn)
	defer end.DropConnection()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	for end.IsConnected() && ctx.Err() == nil {
		req, err := end.ReadMessage()
		if err != nil {
			return
		}

		res, err := privval.DefaultValidationRequestHandler(pv, req, chainID)
		if err != nil {
			log.Error("a request is refused", "err", err) // the answer says so too
		}
		if err := end.WriteMessage(res); err != nil {
			return
		}
	}
}

func dialler(address string) (privval.SocketDialer, error) {
	scheme, rest, _ := strings.Cut(address, "://")
	switch {
	case scheme == "tcp" && rest != "":
		return privval.DialTCPFn(rest, readWrite, ed25519.GenPrivKey()), nil
	case scheme == "unix" && rest != "":
		return privval.DialUnixFn(rest), nil
	}
	return nil, fmt.Errorf("%w: address %q of the CometBFT to sign for, want tcp://host:port or unix://path",
		comethome.ErrHome, address)
}
