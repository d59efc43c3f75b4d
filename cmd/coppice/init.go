package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
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
	var sync comet.StateSync
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
block sync, if its application is this one. That home must not run, and never again with these keys.

With --state-sync the node begins with a snapshot of the state that its peers offer, and not with the first block. Its light client asks the nodes that the flag
names, two at least, for headers, and begins to trust with the block of --trust-height and --trust-hash, which must come from somebody who is
trusted. The chain's genesis.json and comet/config/genesis.json are to be put in place before the start, as for every node that joins.`,
		Example: `  coppice init
  coppice init --home /srv/coppice --chain-id orchard --listen 127.0.0.1:0
  coppice init --consensus cometbft --p2p 10.0.0.7:26656
  coppice init --consensus cometbft --import ~/.cometbft
  coppice init --consensus cometbft --state-sync 10.0.0.7:26657,10.0.0.8:26657 --trust-height 12000 --trust-hash 5E0C...`,
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
				for _, f := range []string{"comet-profile", "p2p", "rpc", "import", "state-sync"} {
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
			if err := syncFlags(cmd, &sync); err != nil {
				return err
			}
			if len(sync.RPC) > 0 {
				o.Comet.StateSync = &sync
			}
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
	f.StringSliceVar(&sync.RPC, "state-sync", nil, "begin with a snapshot of the state; host:port of the RPC of two nodes or more, for headers")
	f.Int64Var(&sync.Height, "trust-height", 0, "height of a block that is known to be the chain's, for --state-sync")
	f.StringVar(&sync.Hash, "trust-hash", "", "hash of that block, in hexadecimal")
	f.DurationVar(&sync.Period, "trust-period", 7*24*time.Hour, "how long ago that block may be")
	f.StringVar(&governance, "governance-key", "", "ed25519 public key in base64, whose holder may change the validators")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// syncFlags checks the flags of a state sync against each other.
func syncFlags(cmd *cobra.Command, s *comet.StateSync) error {
	f := cmd.Flags()
	if !f.Changed("state-sync") {
		for _, other := range []string{"trust-height", "trust-hash", "trust-period"} {
			if f.Changed(other) {
				return usageError(cmd, "--%s is for --state-sync", other)
			}
		}
		return nil
	}
	hash, err := hex.DecodeString(s.Hash)
	switch {
	case f.Changed("import"):
		return usageError(cmd, "--import brings its own configuration: set its section [statesync] instead of --state-sync")
	case len(s.RPC) < 2:
		return usageError(cmd, "--state-sync %s: want the RPC of two nodes at least, with a comma between them", strings.Join(s.RPC, ","))
	case s.Height < 1:
		return usageError(cmd, "--state-sync wants --trust-height and --trust-hash: a block that is known to be the chain's")
	case err != nil || len(hash) != sha256.Size:
		return usageError(cmd, "--trust-hash %q: want %d hexadecimal digits", s.Hash, 2*sha256.Size)
	case s.Period <= 0:
		return usageError(cmd, "--trust-period %v: want a time above 0", s.Period)
	}
	return nil
}
