package command

import "github.com/spf13/cobra"

func (a *app) resetGentleCommand() *cobra.Command {
	var address string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "gentle",
		Short: "Restart CometBFT: the chain and its height stay",
		Long: `Gentle stops CometBFT and starts it again. A CometBFT that does not stop is killed. The command
exits 1, with the reason, if CometBFT did not start.`,
		Example:     `  coppice reset gentle --manager 127.0.0.1:8080`,
		Args:        words(),
		Annotations: map[string]string{homeUse: homeUnused},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.reset(cmd, address, "/gentle_reset", nil, asJSON)
		},
	}
	managerFlag(cmd, &address)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
