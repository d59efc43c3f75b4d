package command

import (
	"encoding/base64"
	"fmt"

	"github.com/spf13/cobra"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

func (a *app) keysRotate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Replace a key of a stopped home",
		Long: `Rotate replaces a key of a home whose node is stopped. The old key stays beside the new one, with
its id or address in its name.`,
	}
	cmd.AddCommand(a.rotateNode(), a.rotateValidator())
	return cmd
}

func (a *app) rotateNode() *cobra.Command {
	return &cobra.Command{
		Use:   "node",
		Short: "Replace the node key, and print the new id",
		Long: `Node replaces the node key. The node gets another id, which it prints: replace the old id in the
persistent_peers of its peers.`,
		Example: "  coppice keys rotate node",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			unlock, err := a.stopped()
			if err != nil {
				return err
			}
			defer unlock()

			old, id, err := comethome.RotateNodeKey(comethome.Dir(a.home))
			if err != nil {
				return exit.Classify(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\nthe id was %s: replace it in persistent_peers of this node's peers\n",
				id, old)
			return err
		},
	}
}

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
				"the one in %s\n", base64.StdEncoding.EncodeToString(next.PubKey), base64.StdEncoding.EncodeToString(old.PubKey), args[0])
			return err
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace the key even if the chain then stands still")
	return cmd
}

// stopped locks the home of a node with CometBFT that is not running.
func (a *app) stopped() (unlock func(), err error) {
	if err := a.wantComet(); err != nil {
		return nil, err
	}
	lock, err := home.Lock(a.home)
	if err != nil {
		return nil, err
	}
	return func() { _ = lock.Close() }, nil
}
