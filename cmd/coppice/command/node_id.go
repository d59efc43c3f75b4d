package command

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/consensus/comet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
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
		Short: "Print the id of this node for its CometBFT peers",
		Long: `Node-id prints the id by which the CometBFT of other nodes knows this node. With --json it also
prints the validator's address and public key, and the addresses on which CometBFT listens. It needs
no running node, and prints no private key.`,
		Example: "  coppice node-id\n  coppice node-id --json",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.wantComet(); err != nil {
				return err
			}
			id, err := comethome.ReadIdentity(comethome.Dir(a.home))
			if err != nil {
				return fmt.Errorf("%w: %w", exit.ErrConfig, err)
			}

			if !asJSON {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), id.NodeID)
				return err
			}

			p2p, rpc, err := comethome.Addresses(comethome.Dir(a.home))
			if err != nil {
				return fmt.Errorf("%w: %w", exit.ErrConfig, err)
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

// wantComet refuses a home without CometBFT.
func (a *app) wantComet() error {
	if _, err := os.Stat(comethome.Dir(a.home)); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := home.ReadGenesis(a.home); err != nil {
		return err
	}
	return fmt.Errorf("%w: this node's consensus is solo; it has no CometBFT", exit.ErrConfig)
}

// nodeID returns the id of a home with CometBFT, and "" for other homes.
func nodeID(home, consensus string) (string, error) {
	if consensus != comet.Name {
		return "", nil
	}
	id, err := comethome.ReadIdentity(comethome.Dir(home))
	return id.NodeID, err
}
