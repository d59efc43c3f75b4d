package main

import (
	"encoding/base64"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/node"
)

// initJSON is what "init --json" prints.
type initJSON struct {
	Home    string `json:"home"`
	ChainID string `json:"chain_id"`
	NodeID  string `json:"node_id,omitempty"`
}

func (a *app) initCommand() *cobra.Command {
	var o node.InitOptions
	var consensus, cometProfile, governance, imported string
	var empty time.Duration
	var set settingFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a home: configuration, genesis and admin token",
		Long: `Init makes the home that --home names: coppice.toml, which is this node's own, genesis.json, which all nodes of a chain
share, admin.token, which lets its holder kill parts of the node, and submit.token, which lets its holder use a node that
listens beyond this machine. It overwrites nothing. Values given here stand in coppice.toml.

With --consensus cometbft the home gets a CometBFT home in it, comet: new keys, a configuration, and a genesis with this node as the
only validator. Its genesis carries ours: nodes with other limits are of another chain. CometBFT listens on loopback only,
unless --p2p and --rpc say otherwise. With --import the keys, the signing state, the
configuration and the genesis of an existing CometBFT home are copied instead, without its chain: the node joins that chain by
block sync, if its application is this one. That home must not run, and never again with these keys.`,
		Example: `  coppice init
  coppice init --home /srv/coppice --chain-id orchard --listen 127.0.0.1:0
  coppice init --consensus cometbft --p2p 10.0.0.7:26656
  coppice init --consensus cometbft --import ~/.cometbft`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Set = set
			if cmd.Flags().Changed("consensus") {
				o.Set = append(o.Set, node.Assignment{Key: "consensus.kind", Value: consensus, Flag: "--consensus"})
			}
			if cmd.Flags().Changed("empty-every") {
				o.Set = append(o.Set, node.Assignment{Key: "consensus.empty_every", Value: empty.String(), Flag: "--empty-every"})
			}
			if consensus != node.CometBFT {
				for _, f := range []string{"comet-profile", "p2p", "rpc", "import"} {
					if cmd.Flags().Changed(f) {
						return usageError(cmd, "--%s is for --consensus %s", f, node.CometBFT)
					}
				}
			}
			if imported != "" {
				for _, f := range []string{"comet-profile", "p2p", "rpc", "governance-key", "empty-every"} {
					if cmd.Flags().Changed(f) {
						return usageError(cmd, "--%s and --import do not go together: what is imported says it", f)
					}
				}
			}
			if cometProfile != "" {
				p, err := comet.ParseProfile(cometProfile)
				if err != nil {
					return usageError(cmd, "--comet-profile: %w", err)
				}
				o.Comet.Profile = p
			}
			if governance != "" {
				key, err := base64.StdEncoding.DecodeString(governance)
				if err != nil {
					return usageError(cmd, "--governance-key: want an ed25519 public key in base64: %w", err)
				}
				o.GovernanceKey = key
			}
			o.Comet.Import = imported
			g, err := node.Init(a.home, o)
			if err != nil {
				return err
			}
			id, err := nodeID(a.home, consensus)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), initJSON{a.home, g.ChainID, id})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "made home %s of chain %s\n", a.home, g.ChainID)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.ChainID, "chain-id", "", "name of the chain (default a random one)")
	set.register(cmd)
	f.StringVar(&consensus, "consensus", node.Solo, "solo, or cometbft for a chain of several nodes")
	f.DurationVar(&empty, "empty-every", 0, "make a block without work when there was none for so long; 0 is never")
	f.StringVar(&cometProfile, "comet-profile", "", "CometBFT's settings: tuned or stock (default tuned)")
	f.StringVar(&o.Comet.P2P, "p2p", "", "host:port of CometBFT for its peers (default 127.0.0.1:26656)")
	f.StringVar(&o.Comet.RPC, "rpc", "", "host:port of CometBFT's RPC (default 127.0.0.1:26657)")
	f.StringVar(&imported, "import", "", "CometBFT home to take keys, configuration and genesis from")
	f.StringVar(&governance, "governance-key", "", "ed25519 public key in base64, whose holder may change the validators")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
