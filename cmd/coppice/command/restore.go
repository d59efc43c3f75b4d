package command

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/offline"
)

func (a *app) restoreCommand() *cobra.Command {
	var asJSON bool
	var o comethome.RestoreOptions
	cmd := &cobra.Command{
		Use:   "restore SRC",
		Short: "Make a new home from a backup",
		Long: `Restore makes the home that --home names from a backup. The home must be empty or not exist. It
appears complete or not at all. Restore verifies every byte of the backup, and compares the new
home's state with its log. The new home gets a log and an admin token of its own.

Of a node with CometBFT, the new home gets new keys, with which it follows the chain and signs
nothing. With --keys it gets the keys that 'coppice backup --keys' has put into a directory. What
that validator has signed after the backup is not known, and signing it again is a double sign. So
one of these is wanted, too:

  - the newest priv_validator_state.json of the lost home, put into the directory of the keys;
  - --signed-up-to HEIGHT: it has signed nothing above HEIGHT, and will sign nothing up to HEIGHT;
  - --abandon-later-blocks, for the only validator of a chain: all blocks after those of the backup
    are lost, and it makes others in their place. Nobody may still have one of the lost blocks.

Stop the node that is replaced for good before the new one starts.

To restore a snapshot of a home, see 'coppice snapshot restore'.`,
		Example: `  coppice restore /backups/2026-11-22 --home /srv/coppice && coppice start --home /srv/coppice
  coppice restore /backups/validator --home /srv/v --keys /safe/validator-keys --signed-up-to 81234`,
		Args: words("SRC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.home == "" {
				return usageError(cmd, "--home is empty: want the directory for the new home")
			}
			height := cmd.Flags().Changed("signed-up-to")
			switch {
			case height && o.SignedUpTo < 1:
				return usageError(cmd, "--signed-up-to is %d: want a height of at least 1", o.SignedUpTo)
			case o.Keys == "" && (height || o.AbandonLater):
				return usageError(cmd, "--signed-up-to and --abandon-later-blocks are for --keys: new keys have "+
					"signed nothing")
			case height && o.AbandonLater:
				return usageError(cmd, "--signed-up-to and --abandon-later-blocks contradict each other")
			}

			if _, err := os.Stat(args[0]); err != nil {
				return fmt.Errorf("%w: %w", exit.ErrConfig, err)
			}

			show := newProgress()
			var notes []string
			options := offline.RestoreOptions{Progress: steps(show), Note: func(s string) { notes = append(notes, s) }}
			if o.Keys != "" {
				options.Consensus = o
			}
			info, err := offline.RestoreWith(cmd.Context(), args[0], a.home, options)
			show.end()
			if err != nil {
				return err
			}

			for _, text := range notes {
				fmt.Fprintf(cmd.ErrOrStderr(), "note: %s\n", text)
			}

			out := cmd.OutOrStdout()
			if asJSON {
				return printJSON(out, info)
			}

			_, err = fmt.Fprintf(out, "restored %s at height %d, app hash %v, in %s\n", info.ChainID, info.Height,
				info.AppHash, a.home)

			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringVar(&o.Keys, "keys", "", "the directory with the keys of the node and its validator")
	f.Int64Var(&o.SignedUpTo, "signed-up-to", 0, "a height above which the validator has signed nothing")
	f.BoolVar(&o.AbandonLater, "abandon-later-blocks", false, "go on after the backup although the only validator may "+
		"have signed later blocks, which are lost")

	return cmd
}
