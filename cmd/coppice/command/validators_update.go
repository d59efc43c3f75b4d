package command

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/governance"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// changeJSON is what "validators update --json" prints.
type changeJSON struct {
	ID      string `json:"id"` // of the transaction
	ChainID string `json:"chain_id"`
	Change  uint64 `json:"change"`  // 1 for the first
	Outcome string `json:"outcome"` // accepted, result, failed
	Height  uint64 `json:"height,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// validatorsUpdate is the command that changes the validator set.
func (a *app) validatorsUpdate() *cobra.Command {
	var file string
	var asJSON, force bool
	cmd := &cobra.Command{
		Use:   "update PUBKEY=POWER...",
		Short: "Change the validators of the chain",
		Long: `Update adds validators, changes their power, or removes them (power 0), by a transaction that is
signed with the governance key. CometBFT uses the new set two blocks later. A change that would
leave no validator, or remove one that is none, fails and changes nothing.

A change after which the validators that are present had no quorum, more than two thirds of the
power, is refused: the chain would stand still until the absent ones are there, and could not even
undo the change. A new validator therefore runs, connected and caught up, before it is added.
Present are this node, its connected peers, and those whose votes are in the last block if that is
less than a minute old. Update asks the home's CometBFT for them, so it works only on the machine of
the node. With --force, it does not ask.`,
		Example: "  coppice validators update --key governance.key \\\n" +
			"    $(coppice node-id --json --home other | jq -r .pub_key)=10",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("no arguments, want at least one PUBKEY=POWER")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := governanceKey(cmd, file)
			if err != nil {
				return err
			}

			var change governance.Change

			for _, arg := range args {
				at := strings.LastIndexByte(arg, '=') // base64 may end with =
				if at < 0 {
					return usageError(cmd, "%q: want PUBKEY=POWER", arg)
				}
				pub, err := base64.StdEncoding.DecodeString(arg[:at])
				if err != nil {
					return usageError(cmd, "%q: a public key in base64: %w", arg, err)
				}
				power, err := strconv.ParseInt(arg[at+1:], 10, 64)
				if err != nil {
					return usageError(cmd, "%q: a power: %w", arg, err)
				}

				change.Updates = append(change.Updates, governance.Validator{PubKey: pub, Power: power})
			}

			ctx, cancel, c, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer cancel()
			defer c.CloseIdle()

			return a.update(ctx, cmd, c, key, change, force, asJSON)
		},
	}
	cmd.Flags().StringVar(&file, "key", "", "file of the governance key")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&force, "force", false, "change the validators even if the chain then stands still")

	return cmd
}

// update signs the change with the next sequence number, submits it, and waits for its result.
func (a *app) update(ctx context.Context, cmd *cobra.Command, c *client.Client, key ed25519.PrivateKey,
	change governance.Change, force, asJSON bool) error {
	name, set, err := a.governed(ctx, c)
	if err != nil {
		return err
	}
	change.ChainID, change.Sequence = name, set.Sequence+1

	if !force {
		if err := a.keepsQuorum(ctx, set.Validators, change); err != nil {
			return err
		}
	}

	body, err := governance.Sign(key, change)
	if err != nil {
		return err
	}

	id, outcome, result, err := a.govern(ctx, c, "change", body)
	if outcome == "" {
		return err
	}
	j := changeJSON{ID: id.String(), ChainID: name, Change: change.Sequence, Outcome: outcome,
		Height: result.GetVersion().GetHeight()}

	if asJSON {
		if err != nil {
			j.Reason = err.Error()
		}
		return errors.Join(printJSON(cmd.OutOrStdout(), j), err)
	}
	if err != nil {
		return err
	}

	_, err = fmt.Fprintf(cmd.OutOrStdout(), "change %d of the validators of %s was made at height %d\n", j.Change,
		j.ChainID, j.Height)

	return err
}

// keepsQuorum returns an error if the validators that are present would have no quorum after a
// change. An empty set stands for that of the genesis. A change that fails anyway is left to the
// chain, which says why.
func (a *app) keepsQuorum(ctx context.Context, set []governance.Validator, change governance.Change) error {
	if a.address != "" {
		return errors.New("with --address it is not known which validators are present, and the change might stop " +
			"the chain: run the command on the machine of a node, with its --home, or give --force")
	}

	p, err := comet.WhoIsPresent(ctx, comethome.Dir(a.home))
	if err != nil {
		return fmt.Errorf("which validators are present: %w (--force does not ask)", err)
	}

	if len(set) == 0 {
		for _, v := range p.Validators {
			set = append(set, governance.Validator{PubKey: v.PubKey, Power: v.Power})
		}
	}

	next, err := governance.Apply(set, change.Updates)
	if err != nil {
		return nil //nolint:nilerr // the change fails and changes nothing
	}

	q := governance.QuorumOf(next, p.Has)
	if q.Reached() {
		return nil
	}

	var absent []string
	for _, v := range q.Absent {
		absent = append(absent, fmt.Sprintf("%s (power %d)", base64.StdEncoding.EncodeToString(v.PubKey), v.Power))
	}

	return fmt.Errorf("refused: after this change the chain would stand still, because only %d of %d of the power is "+
		"present, and a block needs more than two thirds; absent: %s. Start these validators first and let them catch "+
		"up, with this node among their peers, or give --force", q.Present, q.Total, strings.Join(absent, ", "))
}
