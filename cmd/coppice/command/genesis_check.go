package command

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

func (a *app) genesisCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check the genesis of a home, or that of a new chain in a file",
		Long: `Check verifies that the home's two genesis files are of one chain, and prints the chain, its begin,
its validators and whether this node is one of them, and a sha256 to compare with that of the other
machines. With a FILE of 'coppice genesis collect' it checks that instead. It warns of what would
keep the chain from beginning soon.`,
		Example: "  coppice genesis check\n  coppice genesis check network.json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("%d arguments, want at most one FILE", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				n, _, err := readNetwork(args[0])
				if err != nil {
					return err
				}
				return a.checkGenesis(cmd, n, args[0])
			}

			if err := a.wantComet(); err != nil {
				return err
			}
			data, err := os.ReadFile(comethome.GenesisPath(comethome.Dir(a.home)))
			if err != nil {
				_, err = comethome.ReadGenesis(comethome.Dir(a.home))
				return exit.Classify(err)
			}

			return a.checkGenesis(cmd, comethome.NetworkFile{Genesis: data}, "")
		},
	}
}

// checkGenesis checks and prints the genesis of a file, or of the home if file is empty.
func (a *app) checkGenesis(cmd *cobra.Command, n comethome.NetworkFile, file string) error {
	data, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	_, theirs, carried, err := comethome.ParseNetwork(data)
	if err != nil {
		return exit.Classify(err)
	}

	var own []byte
	if file == "" {
		ours, err := home.ReadGenesis(a.home)
		if err != nil {
			return err
		}
		one, _ := json.Marshal(ours)
		other, _ := json.Marshal(carried)
		if comethome.CarriesState(theirs.AppState) && !bytes.Equal(one, other) {
			return fmt.Errorf("%w: genesis.json and comet/config/genesis.json of %s are not of one chain: one "+
				"was edited; copy it from another node of the chain, or, if no chain has begun here, put "+
				"both in place with 'coppice genesis install FILE'", exit.ErrConfig, a.home)
		}

		k, err := comethome.ReadKeys(comethome.Dir(a.home))
		if err != nil {
			return exit.Classify(err)
		}
		own = k.Validator.PubKey
	}

	sum, err := comethome.GenesisSum(n.Genesis)
	if err != nil {
		return exit.Classify(err)
	}

	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "chain       %s\nbegins      %s, at height %d\nsha256      %s\n", theirs.ChainID,
		theirs.Time.UTC().Format(time.RFC3339Nano), max(theirs.InitialHeight, 1), sum)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	is := false
	for _, v := range theirs.Validators {
		here := ""
		if own != nil && bytes.Equal(own, v.PubKey) {
			here, is = "this node", true
		}
		fmt.Fprintf(w, "validator\t%s\tpower %d\t%s\t%s\n", base64.StdEncoding.EncodeToString(v.PubKey), v.Power,
			v.Name, here)
	}
	for _, p := range n.Peers {
		fmt.Fprintf(w, "peer\t%s\n", p)
	}
	if err := w.Flush(); err != nil {
		return err
	}

	problems := comethome.Problems(theirs, time.Now())
	if file == "" && own != nil && !is {
		problems = append(problems,
			"this node's key is not among the validators: it follows the chain and signs nothing")
	}
	for _, p := range problems {
		if _, err := fmt.Fprintf(out, "note: %s\n", p); err != nil {
			return err
		}
	}

	return nil
}
