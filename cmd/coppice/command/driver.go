package command

import (
	"flag"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/consensus"
)

// driverCommands returns the commands that the registered kinds of consensus run as processes of
// their own. A node starts such a process and passes only the flags that the command declares, so
// the checks of the persistent flags do not run.
func driverCommands() (cmds []*cobra.Command) {
	for _, k := range consensus.Kinds() {
		for _, c := range k.Traits().Commands {
			flags := flag.NewFlagSet(c.Name, flag.ContinueOnError)
			run := c.New(flags)
			cmd := &cobra.Command{
				Use:               c.Name,
				Short:             c.Short,
				Hidden:            true,
				Args:              words(),
				PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
				RunE: func(cmd *cobra.Command, _ []string) error {
					if status, err := run(cmd.Context()); err != nil {
						return &exitError{status, err}
					}
					return nil
				},
			}
			cmd.Flags().AddGoFlagSet(flags)
			cmds = append(cmds, cmd)
		}
	}
	return cmds
}
