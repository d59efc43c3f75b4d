package command

import (
	"encoding/base64"
	"fmt"

	"github.com/spf13/cobra"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/exit"
)

func (a *app) rotateValidator() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "validator DIR",
		Short: "Replace the validator key by one that 'keys generate validator' made",
		Long: `Validator puts the validator key in DIR, with its signing state, in place of the home's. It is
refused if the chain then stands still: if the other validators have no quorum, more than two thirds
of the power, without the old key, and the new key is no validator yet. In that order:

  coppice keys generate validator next-key
  coppice validators update --key governance.key NEW=POWER OLD=0
  coppice keys rotate validator next-key        (with the node stopped)

A chain that needs this validator stands still between the change and the restart, so its update
needs --force.`,
		Example: "  coppice keys rotate validator next-key",
		Args:    words("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			unlock, err := a.stopped()
			if err != nil {
				return err
			}
			defer unlock()

			old, next, err := comethome.RotateValidatorKey(comethome.Dir(a.home), args[0], force)
			if err != nil {
				return exit.Classify(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the validator key is %s, it was %s; nothing else may sign with "+
				"the one in %s\n", base64.StdEncoding.EncodeToString(next.PubKey),
				base64.StdEncoding.EncodeToString(old.PubKey), args[0])
			return err
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace the key even if the chain then stands still")
	return cmd
}
