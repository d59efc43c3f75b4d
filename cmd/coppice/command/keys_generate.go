package command

import (
	"encoding/base64"
	"fmt"

	"github.com/spf13/cobra"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/exit"
)

func (a *app) keysGenerate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Make a key where there is none",
		Long:  "Generate makes a node key in the home, or a validator key in a directory. It overwrites nothing.",
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "node",
		Short: "Make the home's node key, if it has none, and print the node's id",
		Long: `Node makes the node key of a home that has lost its own, or is a copy whose key was removed. The
node's peers must learn its new id, which it prints.`,
		Example: "  coppice keys generate node",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.wantComet(); err != nil {
				return err
			}
			id, err := comethome.NewNodeKey(comethome.Dir(a.home))
			if err != nil {
				return exit.Classify(err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), id)
			return err
		},
	}, &cobra.Command{
		Use:   "validator DIR",
		Short: "Make a validator key in a directory, and print its public key",
		Long: `Validator makes a validator key and its signing state, which is empty, in a directory. From there,
'coppice keys rotate validator' takes it into a home, and 'coppice keys signer' signs with it.`,
		Example:     "  coppice keys generate validator next-key",
		Args:        words("DIR"),
		Annotations: map[string]string{homeUse: homeUnused},
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := comethome.NewValidatorKey(args[0])
			if err != nil {
				return exit.Classify(err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), base64.StdEncoding.EncodeToString(v.PubKey))
			return err
		},
	})
	return cmd
}
