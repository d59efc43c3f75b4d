package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node"
)

// initJSON is what "init --json" prints.
type initJSON struct {
	Home    string `json:"home"`
	ChainID string `json:"chain_id"`
}

func (a *app) initCommand() *cobra.Command {
	var o node.InitOptions
	var profile string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a home: configuration, genesis and admin token",
		Long: `Init makes the home that --home names: coppice.toml, which is this node's own, genesis.json, which all nodes of a chain
share, and admin.token, which lets its holder kill parts of the node. It overwrites nothing.`,
		Example: `  coppice init
  coppice init --home /srv/coppice --chain-id orchard --listen 127.0.0.1:0`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if profile != "" {
				p, err := node.ParseProfile(profile)
				if err != nil {
					return usageError(cmd, "--profile: %w", err)
				}
				o.Profile = p
			}
			g, err := node.Init(a.home, o)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), initJSON{a.home, g.ChainID})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "made home %s of chain %s\n", a.home, g.ChainID)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.ChainID, "chain-id", "", "name of the chain (default a random one)")
	f.StringVar(&o.Listen, "listen", "", "host:port to listen on; port 0 takes a free one (default 127.0.0.1:7070)")
	f.StringVar(&profile, "profile", "", "limits of the tree: default, strict or chaos")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
