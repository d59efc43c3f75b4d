package command

import (
	"context"
	"encoding/base64"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/consensus/comet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/exit"
)

// validatorsJSON is what "validators --json" prints.
type validatorsJSON struct {
	Height     int64           `json:"height"` // 0: of the genesis
	Validators []validatorJSON `json:"validators"`
}

type validatorJSON struct {
	Name    string `json:"name,omitempty"`
	Address string `json:"address"`
	PubKey  string `json:"pub_key"`
	Power   int64  `json:"power"`
}

func (a *app) validatorsCommand() *cobra.Command {
	var asJSON, genesis bool
	cmd := &cobra.Command{
		Use:   "validators",
		Short: "List the validators of a CometBFT chain",
		Long: `Validators lists the validator set at the latest height, as the CometBFT of the home's running node
knows it. It asks over that CometBFT's own socket, so it works only for the user and on the machine
of the node, and not with --address. With --genesis it lists the validators of the home's genesis,
which needs no running node.`,
		Example: `  coppice validators
  coppice validators --genesis --json`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.address != "" {
				return usageError(cmd, "--address does not go with validators, which asks the CometBFT of a home on "+
					"this machine (--home)")
			}

			if err := a.wantComet(); err != nil {
				return err
			}
			height, set, err := a.validators(cmd.Context(), genesis)
			if err != nil {
				return err
			}

			out := validatorsJSON{Height: height, Validators: []validatorJSON{}}

			for _, v := range set {
				out.Validators = append(out.Validators,
					validatorJSON{v.Name, v.Address, base64.StdEncoding.EncodeToString(v.PubKey), v.Power})
			}

			if asJSON {
				return printJSON(cmd.OutOrStdout(), out)
			}

			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ADDRESS\tPUBLIC KEY\tPOWER\tNAME")
			for _, v := range out.Validators {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", v.Address, v.PubKey, v.Power, v.Name)
			}

			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&genesis, "genesis", false, "list the validators that the chain began with")
	cmd.AddCommand(a.validatorsUpdate(), a.validatorsKeygen())

	return cmd
}

// validators returns the validators of the running chain, or of the genesis.
func (a *app) validators(ctx context.Context, genesis bool) (height int64, set []comethome.Validator, err error) {
	dir := comethome.Dir(a.home)
	if genesis {
		g, err := comethome.ReadGenesis(dir)
		if err != nil {
			return 0, nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
		}
		return 0, g.Validators, nil
	}

	ctx, cancel, _, err := a.dial(ctx) // fails if no node runs
	if err != nil {
		return 0, nil, err
	}
	defer cancel()

	if why := a.notRunning(); why != nil {
		return 0, nil, why
	}

	return comet.ValidatorSet(ctx, dir)
}
