package command

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/governance"
	"github.com/coppice-go/coppice/engines/chain"
)

// resetJSON is what "reset agree --json" prints.
type resetJSON struct {
	ID            string `json:"id"` // of the transaction
	Change        uint64 `json:"change"`
	Outcome       string `json:"outcome"`          // accepted, result, failed
	Height        uint64 `json:"height,omitempty"` // of the block that decided the reset
	ChainID       string `json:"chain_id,omitempty"`
	Epoch         uint64 `json:"epoch,omitempty"`
	InitialHeight uint64 `json:"initial_height,omitempty"`
	Pruned        bool   `json:"pruned,omitempty"` // the chain goes on, without the blocks before Height
	Reason        string `json:"reason,omitempty"`
}

// resetAgree is the command that has the chain decide on a reset.
func (a *app) resetAgree() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "agree",
		Short: "Reset the chain at one height on all nodes",
		Long: `Agree resets the chain by a transaction that is signed with the governance key. The block that
commits it is the last one that changes the state of this epoch. All nodes then end the chain and
begin the next epoch with the state after that block. Nothing that was acknowledged is lost:
transactions that are not committed yet go to the new chain.

After the decision the reset happens. It cannot be taken back.`,
		Example: "  coppice reset agree --key governance.key",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := governanceKey(cmd, file)
			if err != nil {
				return err
			}

			ctx, cancel, c, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer cancel()
			defer c.CloseIdle()

			return a.agreeReset(ctx, cmd, c, key, asJSON)
		},
	}
	cmd.Flags().StringVar(&file, "key", "", "file of the governance key")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")

	return cmd
}

// agreeReset signs the reset with the next sequence number, submits it, and waits for its result.
func (a *app) agreeReset(ctx context.Context, cmd *cobra.Command, c *client.Client, key ed25519.PrivateKey,
	asJSON bool) error {
	name, set, err := a.governed(ctx, c)
	if err != nil {
		return err
	}
	change := governance.ResetChange{ChainID: name, Sequence: set.Sequence + 1}
	body, err := governance.SignReset(key, change)
	if err != nil {
		return err
	}

	id, outcome, result, err := a.govern(ctx, c, "reset", body)
	if outcome == "" {
		return err
	}
	j := resetJSON{ID: id.String(), Change: change.Sequence, Outcome: outcome}

	if result != nil {
		var r *chain.Reset
		if pruned, wrong := chain.DecodePruned(result.Data); wrong == nil {
			j.Height, j.Pruned, j.ChainID = pruned.Height, true, name
		} else if r, err = chain.DecodeReset(result.Data); err != nil {
			j.Outcome = outcomeAccepted
		} else {
			j.Height, j.Epoch, j.InitialHeight = r.Height, r.Epoch+1, r.InitialHeight()
			j.ChainID = chain.EpochID(name, j.Epoch)
		}
	}

	if asJSON {
		if err != nil {
			j.Reason = err.Error()
		}
		return errors.Join(printJSON(cmd.OutOrStdout(), j), err)
	}
	if err != nil {
		return err
	}

	if j.Pruned {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "history of %s before height %d is dropped: the chain goes on\n", name,
			j.Height)
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "reset of %s was decided at height %d: %s begins at height %d\n",
		name, j.Height, j.ChainID, j.InitialHeight)

	return err
}
