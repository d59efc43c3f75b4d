package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/chain"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/newcomer"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/peers"
)

// pastOf asks the peers of reset.peers how the chain to join came to its epoch. It does nothing for
// a chain in epoch 0.
func (a *app) pastOf(cmd *cobra.Command, c *comethome.Chain, o home.InitOptions) error {
	ours, err := comethome.Carried(o.ChainID, c.Genesis, "the chain to join")
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	epoch, ok := chain.EpochOf(c.Genesis.ChainID, ours.ChainID)
	if !ok || epoch == 0 {
		return nil
	}

	s, err := config.FromAssignments(o.Set)
	if err != nil {
		return err
	}
	if len(s.Config.Peers()) == 0 {
		return usageError(cmd, "chain %s is in epoch %d, and its blocks of earlier epochs are gone: want the API "+
			"addresses of nodes that have the state at its last reset, --set reset.peers=HOST:PORT,HOST:PORT",
			ours.ChainID, epoch)
	}

	list, closeIdle, err := peers.Open(a.home, s.Config, ours)
	if err != nil {
		return err
	}
	defer closeIdle()

	c.Past, err = newcomer.Ask(cmd.Context(), ours, c.GenesisDoc, list)
	return err
}
