package command

import (
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
)

func (a *app) testnetPartition(open func() (*testnet.Net, error)) *cobra.Command {
	var heal bool
	cmd := &cobra.Command{
		Use:   "partition GROUP...",
		Short: "Cut the links between groups of nodes, or heal all links",
		Long: `Partition cuts every link between nodes of different groups: what is sent does not arrive, and the
sender is not told. Nodes that no GROUP names are one more group. A new partition replaces the
previous one.`,
		Example: `  coppice testnet partition 3
  coppice testnet partition 0,1 2,3
  coppice testnet partition --heal`,
		Args: func(_ *cobra.Command, args []string) error {
			if heal != (len(args) == 0) {
				return errors.New("want groups such as 0,1 2,3, or --heal")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			groups := make([][]int, 0, len(args))
			for _, a := range args {
				var g []int
				for w := range strings.SplitSeq(a, ",") {
					i, err := strconv.Atoi(w)
					if err != nil {
						return usageError(cmd, "group %q: want numbers, separated by commas", a)
					}
					g = append(g, i)
				}

				groups = append(groups, g)
			}

			n, err := open()
			if err != nil {
				return err
			}
			if _, err := n.GroupOf(groups); err != nil {
				return usageError(cmd, "%w", err)
			}

			return n.Partition(cmd.Context(), groups)
		},
	}
	cmd.Flags().BoolVar(&heal, "heal", false, "open all links")
	return cmd
}
