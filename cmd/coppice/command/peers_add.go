package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/consensus/comet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/exit"
)

func (a *app) peersAdd() *cobra.Command {
	return &cobra.Command{
		Use:   "add ID@HOST:PORT",
		Short: "Add a peer, without a restart",
		Long: `Add writes a peer into persistent_peers of the home's config.toml, in place of an older address of
the same id, and makes the home's running CometBFT dial it. If no node runs, the next start dials
it.`,
		Example: "  coppice peers add 4f3c…@10.0.0.9:26656",
		Args:    words("ID@HOST:PORT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.wantComet(); err != nil {
				return err
			}
			dir := comethome.Dir(a.home)
			if err := comethome.AddPeer(dir, args[0]); err != nil {
				return exit.Classify(err)
			}

			said := "added; the next start dials it"
			if a.notRunning() == nil {
				err := comet.Dial(cmd.Context(), dir, args[0])
				if err != nil && !errors.Is(err, comet.ErrNotAsked) {
					return err
				}
				if err != nil {
					return fmt.Errorf("added to config.toml, and not dialled now: %w", err)
				}
				said = "added and dialled: 'coppice peers list' shows it when it is connected"
			}

			_, err := fmt.Fprintln(cmd.OutOrStdout(), said)

			return err
		},
	}
}
