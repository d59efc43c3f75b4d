package command

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/governance"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/home"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// governanceKey reads the key in the file that the flag --key names. Errors are usage errors.
func governanceKey(cmd *cobra.Command, file string) (ed25519.PrivateKey, error) {
	if file == "" {
		return nil, usageError(cmd, "--key is missing: want the file of the governance key")
	}
	key, err := home.ReadSeed(file)
	if err != nil {
		return nil, usageError(cmd, "--key: %w", err)
	}
	return key, nil
}

// governed returns the name of the chain, which resets do not change, and the validators after the
// last change. Before the first change the set is empty and its Sequence 0.
func (a *app) governed(ctx context.Context, c *client.Client) (name string, set governance.Set, err error) {
	s, err := c.Status(ctx)
	if err != nil {
		return "", set, a.nodeError(ctx, err)
	}
	raw, found, err := c.Get(ctx, []byte(governance.StateKey))
	if err != nil {
		return "", set, a.nodeError(ctx, err)
	}

	if found {
		set, err = governance.DecodeSet(raw)
	}
	return chain.NameOf(s.ChainId, s.Period), set, err
}

// Outcomes of a transaction, as JSON names them.
const (
	outcomeAccepted = "accepted" // it is in no block yet
	outcomeFailed   = "failed"
	outcomeResult   = "result"
)

// govern submits a signed body of the governance backend, and waits for its result. what names it
// in errors. The outcome is empty if the node has not accepted it, and outcomeResult if there is a
// result. With any other outcome comes an error that says what is to be done.
func (a *app) govern(ctx context.Context, c *client.Client, what string, body []byte) (id chain.TxID, outcome string,
	result *logv1.TxResult, err error) {
	tx, err := c.NewTx(governance.Name, body, 5*time.Minute).Encode()
	if err != nil {
		return id, "", nil, err
	}

	outs, err := c.SubmitMany(ctx, [][]byte{tx}, true)
	o := outs[0]

	switch {
	case o.Err != nil:
		return o.ID, "", nil, fmt.Errorf("the %s, transaction %s: %w", what, o.ID, a.nodeError(ctx, o.Err))

	case o.Result == nil:
		return o.ID, outcomeAccepted, nil, notYet(o.ID, a.nodeError(ctx, err))

	case o.Result.Code != 0:
		err = fmt.Errorf("the %s failed: %s", what, o.Result.Log)
		if strings.Contains(o.Result.Log, governance.ErrSequence.Error()) {
			err = fmt.Errorf("%w: another change was made at the same time; run it again", err)
		}
		return o.ID, outcomeFailed, nil, err
	}

	return o.ID, outcomeResult, o.Result, nil
}
