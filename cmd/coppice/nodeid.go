package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/consensus/comet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node"
)

// nodeIDJSON is what "node-id --json" prints.
type nodeIDJSON struct {
	NodeID    string `json:"node_id"`
	Address   string `json:"address"` // of the validator
	PubKey    string `json:"pub_key"` // ed25519, base64
	P2P       string `json:"p2p"`     // host:port
	RPC       string `json:"rpc"`
	PeerEntry string `json:"peer"` // for persistent_peers
}

func (a *app) nodeIDCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "node-id",
		Short: "Print who this node is to its CometBFT peers",
		Long: `Node-id prints the id by which CometBFT's peers know this node; with --json also the validator's address and public key
and where CometBFT listens. It needs no running node, and prints no private key.`,
		Example: "  coppice node-id\n  coppice node-id --json",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.wantComet(); err != nil {
				return err
			}
			id, err := comethome.ReadIdentity(comethome.Dir(a.home))
			if err != nil {
				return fmt.Errorf("%w: %w", node.ErrConfig, err)
			}

			if !asJSON {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), id.NodeID)
				return err
			}

			p2p, rpc, err := comethome.Addresses(comethome.Dir(a.home))
			if err != nil {
				return fmt.Errorf("%w: %w", node.ErrConfig, err)
			}
			return printJSON(cmd.OutOrStdout(), nodeIDJSON{
				NodeID: id.NodeID, Address: id.Validator.Address,
				PubKey: base64.StdEncoding.EncodeToString(id.Validator.PubKey),
				P2P:    p2p, RPC: rpc, PeerEntry: id.NodeID + "@" + p2p,
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// wantComet refuses a home whose consensus is another.
func (a *app) wantComet() error {
	if _, err := os.Stat(comethome.Dir(a.home)); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := node.ReadGenesis(a.home); err != nil {
		return err
	}
	return fmt.Errorf("%w: this node's consensus is solo; it has no CometBFT", node.ErrConfig)
}

// nodeID is the id of a home with CometBFT, empty for another.
func nodeID(home, consensus string) (string, error) {
	if consensus != comet.Name {
		return "", nil
	}
	id, err := comethome.ReadIdentity(comethome.Dir(home))
	return id.NodeID, err
}
