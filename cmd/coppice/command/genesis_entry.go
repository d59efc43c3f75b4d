package command

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/chain"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

func (a *app) genesisEntry() *cobra.Command {
	var power int64
	var address, moniker, agent string
	cmd := &cobra.Command{
		Use:   "entry",
		Short: "Print this node's entry in the genesis of a new chain",
		Long: `Entry prints what this node contributes to a new chain: its id, the address at which other nodes
reach it, its validator's public key, and its power. With power 0 it is a node that is no validator.
A home with an agent.key (see 'coppice validators keygen') has an agent of a service of rounds: the
entry has its name and public key.`,
		Example: "  coppice genesis entry --address 10.0.0.7:26656 > a.json",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.wantComet(); err != nil {
				return err
			}
			if power < 0 {
				return usageError(cmd, "--power %d, want 0 or more", power)
			}
			dir := comethome.Dir(a.home)
			k, err := comethome.ReadKeys(dir)
			if err != nil {
				return exit.Classify(err)
			}
			if k.Signer != "" && power > 0 {
				return usageError(cmd,
					"the remote signer has the validator's key: make the entry by hand with its pub_key")
			}

			if address == "" {
				if address, _, err = comethome.Addresses(dir); err != nil {
					return exit.Classify(err)
				}
				host, _, _ := net.SplitHostPort(address)
				if ip := net.ParseIP(host); ip != nil && (ip.IsUnspecified() || ip.IsLoopback()) {
					return usageError(cmd, "--address: this node listens on %s, which other machines cannot dial: "+
						"want the host:port at which they reach it", address)
				}
			}
			if moniker == "" {
				moniker = k.Validator.Name
			}

			m := comethome.Member{Moniker: moniker, NodeID: k.NodeID, Peer: k.NodeID + "@" + address,
				PubKey: k.Validator.PubKey, Power: power}
			if m.Agent, err = a.agentOf(cmd, agent, moniker); err != nil {
				return err
			}
			if err := m.Check(); err != nil {
				return usageError(cmd, "%w", err)
			}

			return printJSON(cmd.OutOrStdout(), m)
		},
	}
	cmd.Flags().Int64Var(&power, "power", 10, "voting power; 0: no validator")
	cmd.Flags().StringVar(&address, "address", "", "host:port at which other nodes reach this one "+
		"(default: where it listens)")
	cmd.Flags().StringVar(&moniker, "name", "", "name of the node (default: its moniker)")
	cmd.Flags().StringVar(&agent, "agent", "", "name of the agent whose key is in agent.key "+
		"(default: that of the node)")
	return cmd
}

// agentOf returns the agent of the home, or nil if it has no agent.key. An empty name stands for
// that of the node.
func (a *app) agentOf(cmd *cobra.Command, name, node string) (*chain.Agent, error) {
	path := filepath.Join(a.home, home.AgentKeyFile)
	key, err := home.ReadSeed(path)

	switch {
	case errors.Is(err, fs.ErrNotExist) && name == "":
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, usageError(cmd, "--agent %s: there is no %s: make one with 'coppice validators keygen'", name,
			path)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	return &chain.Agent{Name: cmp.Or(name, node), Key: key.Public().(ed25519.PublicKey)}, nil
}
