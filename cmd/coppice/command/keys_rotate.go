package command

import (
	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/home"
)

func (a *app) keysRotate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Replace a key of a stopped home",
		Long: `Rotate replaces a key of a home whose node is stopped. The old key stays beside the new one, with
its id or address in its name.`,
		Example: "  coppice keys rotate node",
	}
	cmd.AddCommand(a.rotateNode(), a.rotateValidator())
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
