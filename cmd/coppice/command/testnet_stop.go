package command

import (
	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
)

// stoppedNetJSON is what "testnet stop --json" prints.
type stoppedNetJSON struct {
	Dir     string `json:"dir"`
	Stopped bool   `json:"stopped"`
}

func (a *app) testnetStop(open func() (*testnet.Net, error)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "stop",
		Short:   "Stop a running testnet in order",
		Example: "  coppice testnet stop",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := open()
			if err != nil {
				return err
			}
			if err := n.Stop(cmd.Context()); err != nil || !asJSON {
				return err
			}
			return printJSON(cmd.OutOrStdout(), stoppedNetJSON{n.Dir, true})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
