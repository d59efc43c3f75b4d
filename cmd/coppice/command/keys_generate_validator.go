package command

import (
	"encoding/base64"
	"fmt"

	"github.com/spf13/cobra"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/exit"
)

func keysGenerateValidator() *cobra.Command {
	return &cobra.Command{
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
	}
}
