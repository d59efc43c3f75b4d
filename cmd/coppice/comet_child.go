package main

import (
	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/supervisor/process"
)

// cometChildCommand is the command that the node runs as its CometBFT process.
func cometChildCommand() *cobra.Command {
	var o comet.ChildOptions
	cmd := &cobra.Command{
		Use:    comet.ChildCommand,
		Short:  "Run CometBFT (the node starts this itself)",
		Hidden: true,
		Args:   words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			process.WatchParent()
			o.Home = cmd.Flag("home").Value.String() // here this is CometBFT's home
			if err := comet.RunChild(cmd.Context(), o); err != nil {
				return &exitError{comet.ChildStatus(err), err}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.ABCI, "abci", "", "path of the socket to connect to")
	f.StringVar(&o.RPC, "rpc", "", "path of the socket to serve RPC on")

	return cmd
}
