package command

import (
	"encoding/base64"
	"fmt"

	"github.com/spf13/cobra"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/exit"
)

// keysJSON is what "keys show --json" prints.
type keysJSON struct {
	NodeID  string       `json:"node_id"`
	Address string       `json:"address,omitempty"` // of the validator
	PubKey  string       `json:"pub_key,omitempty"` // ed25519, base64
	Signer  string       `json:"remote_signer,omitempty"`
	Signed  *signingJSON `json:"signed,omitempty"`
}

type signingJSON struct {
	Height int64 `json:"height"`
	Round  int32 `json:"round"`
	Step   int8  `json:"step"`
}

func (a *app) keysShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the public keys, and how far the validator has signed",
		Long: `Show prints the node's id, the validator's address and public key, and the height, round and step of
its newest signature. If the node waits for a remote signer, it prints the address where it waits;
the key is the signer's then. It needs no running node, and prints no private key.`,
		Example: "  coppice keys show\n  coppice keys show --json",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.wantComet(); err != nil {
				return err
			}
			k, err := comethome.ReadKeys(comethome.Dir(a.home))
			if err != nil {
				return exit.Classify(err)
			}

			j := keysJSON{NodeID: k.NodeID, Address: k.Validator.Address, Signer: k.Signer,
				PubKey: base64.StdEncoding.EncodeToString(k.Validator.PubKey)}
			if k.Signer == "" {
				j.Signed = &signingJSON{k.Height, k.Round, k.Step}
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), j)
			}

			out := fmt.Sprintf("node id          %s\n", j.NodeID)
			if k.Signer != "" {
				out += fmt.Sprintf("validator        of the remote signer that connects to %s\n", k.Signer)
			} else {
				out += fmt.Sprintf("validator        %s\npublic key       %s\nsigned up to     height %d, round %d, step %d\n",
					j.Address, j.PubKey, k.Height, k.Round, k.Step)
			}

			_, err = fmt.Fprint(cmd.OutOrStdout(), out)

			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
