package command

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/chain"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

func (a *app) genesisInstall() *cobra.Command {
	return &cobra.Command{
		Use:   "install FILE",
		Short: "Put the genesis and the peers of a new chain into a home",
		Long: `Install puts the genesis of 'coppice genesis collect' into both genesis files of the home, and the
other nodes into persistent_peers. It is refused if a chain has begun in the home.`,
		Example: "  coppice genesis install network.json",
		Args:    words("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, ours, err := readNetwork(args[0])
			if err != nil {
				return err
			}
			unlock, err := a.stopped()
			if err != nil {
				return err
			}
			defer unlock()
			if err := a.noChain(); err != nil {
				return err
			}

			if err := comethome.Install(comethome.Dir(a.home), n); err != nil {
				return exit.Classify(err)
			}
			data, err := json.MarshalIndent(ours, "", "  ")
			if err != nil {
				return err
			}
			path := filepath.Join(a.home, chain.GenesisFile)
			if err := durable.OS.Replace(path, append(data, '\n'), 0o644); err != nil {
				return err
			}

			return a.checkGenesis(cmd, n, "")
		},
	}
}

// readNetwork reads the file of a network.
func readNetwork(path string) (comethome.NetworkFile, chain.Genesis, error) {
	data, err := readDocument(path, "the file of a network", maxDocument)
	if err != nil {
		return comethome.NetworkFile{}, chain.Genesis{}, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	n, _, ours, err := comethome.ParseNetwork(data)
	if err != nil {
		return n, ours, fmt.Errorf("%w: %s: %w", exit.ErrConfig, path, err)
	}
	return n, ours, nil
}

// noChain returns an error if a chain has begun in the home.
func (a *app) noChain() error {
	for _, dir := range []string{home.LogDir(a.home), filepath.Join(comethome.Dir(a.home), "data", "blockstore.db")} {
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
			return fmt.Errorf("%w: a chain has begun in %s (%s is not empty), and its genesis is fixed: if "+
				"a file of it was edited, copy that from another node of the chain; for another chain, make "+
				"another home", exit.ErrConfig, a.home, dir)
		}
	}
	return nil
}
