package main

import (
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node"
)

// settingJSON is a line of what "config --json" prints.
type settingJSON struct {
	Key    string     `json:"key"`
	Value  any        `json:"value"`
	Origin originJSON `json:"origin"`
}

type originJSON struct {
	Layer  string `json:"layer"`          // default, file, environment, flag
	Name   string `json:"name,omitempty"` // of the file, the variable or the flag
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

func (a *app) configCommand() *cobra.Command {
	var set settingFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the configuration in force, and where each value came from",
		Long: `Config prints what "coppice start" would run with, given the same flags and environment: each key, its value, and which
layer gave it. Layers are the defaults, coppice.toml, the environment (COPPICE_LOG_SEGMENT_BYTES for log.segment_bytes) and flags;
the last one counts.

Profiles are limits of the supervision tree: default restarts the transaction core up to 3 times in 10 s before the node as a
whole restarts; strict restarts the node at the first failure there; chaos, for runs that kill all the time, allows 10000
restarts. "coppice tree --spec --profile NAME" prints one.`,
		Example: `  coppice config
  coppice config --json --set pool.max_txs=1000
  coppice config explain log.segment_bytes
  coppice config check /etc/coppice/coppice.toml`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := node.Resolve(a.home, node.Sources{Environ: os.Environ(), Set: set})
			if err != nil {
				return err
			}

			if asJSON {
				all := []settingJSON{}
				for _, k := range node.Keys() {
					o := s.Origin(k.Name)
					all = append(all,
						settingJSON{k.Name, jsonValue(k, s.Config),
							originJSON{o.Layer.String(), o.Name, o.Line, o.Column}})
				}
				return printJSON(cmd.OutOrStdout(), all)
			}

			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, k := range node.Keys() {
				fmt.Fprintf(w, "%s\t%s\t%s\n", k.Name, k.TOML(s.Config), s.Origin(k.Name))
			}

			return w.Flush()
		},
	}
	set.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(configCheckCommand(), configExplainCommand())

	return cmd
}

// jsonValue is a key's value as JSON has it; durations as they are written.
func jsonValue(k node.Key, c node.Config) json.RawMessage {
	b, err := json.Marshal(k.Value(c))
	if err != nil {
		panic(err) // strings, numbers and booleans
	}
	return b
}
