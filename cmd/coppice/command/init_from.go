package command

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
)

// fromJSON is what "init --from FILE --json" prints.
type fromJSON struct {
	Home    string `json:"home"`
	ChainID string `json:"chain_id"`
	Height  uint64 `json:"height"`
	AppHash string `json:"app_hash"`
}

// isFile reports whether name is that of a regular file.
func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// initFrom makes a home without peers that begins with the snapshot in a file.
func (a *app) initFrom(cmd *cobra.Command, from []string, o home.InitOptions, asJSON bool) error {
	if len(from) != 1 || !isFile(from[0]) {
		return usageError(cmd, "--from %s is for --consensus cometbft; without peers, want one file of 'coppice "+
			"snapshot export'", strings.Join(from, ","))
	}

	show := newProgress()
	v, err := offline.InitFrom(cmd.Context(), a.home, from[0], o, offline.SnapshotOptions{
		Program: program(), Progress: step(show, "verify"), Fatal: fatal(cmd),
	})
	show.end()
	if err != nil {
		return err
	}

	if asJSON {
		return printJSON(cmd.OutOrStdout(), fromJSON{a.home, v.ChainID, v.Height, fmt.Sprintf("%x", v.AppHash)})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "made home %s of chain %s, which begins with the state at height %d, "+
		"app hash %x\n", a.home, v.ChainID, v.Height, v.AppHash)

	return err
}
