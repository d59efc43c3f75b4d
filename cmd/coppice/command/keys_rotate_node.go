package command

import (
	"fmt"

	"github.com/spf13/cobra"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/exit"
)

func (a *app) rotateNode() *cobra.Command {
	return &cobra.Command{
		Use:   "node",
		Short: "Replace the node key, and print the new id",
		Long: `Node replaces the node key. The node gets another id, which it prints: replace the old id in the
persistent_peers of its peers.`,
		Example: "  coppice keys rotate node",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			unlock, err := a.stopped()
			if err != nil {
				return err
			}
			defer unlock()

			old, id, err := comethome.RotateNodeKey(comethome.Dir(a.home))
			if err != nil {
				return exit.Classify(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(),
				"%s\nthe id was %s: replace it in persistent_peers of this node's peers\n",
				id, old)
			return err
		},
	}
}
