package command

import (
	"fmt"

	"github.com/spf13/cobra"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/exit"
)

func (a *app) keysGenerateNode() *cobra.Command {
	return &cobra.Command{
		Use:   "node",
		Short: "Make the home's node key, if it has none, and print the node's id",
		Long: `Node makes the node key of a home that has lost its own, or is a copy whose key was removed. The
node's peers must learn its new id, which it prints.`,
		Example: "  coppice keys generate node",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.wantComet(); err != nil {
				return err
			}
			id, err := comethome.NewNodeKey(comethome.Dir(a.home))
			if err != nil {
				return exit.Classify(err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), id)
			return err
		},
	}
}
