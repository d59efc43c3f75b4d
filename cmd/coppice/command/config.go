package command

import (
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/config"
)

// settingJSON is an element of what "config --json" prints.
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
		Short: "Print the configuration in force, and where each value comes from",
		Long: `Config prints what 'coppice start' would run with, given the same flags and environment: each key,
its value, and the layer that set it. The layers are the defaults, coppice.toml, the environment
(COPPICE_LOG_SEGMENT_BYTES for log.segment_bytes) and flags. A later layer overrides an earlier one.

A profile sets the limits of the supervision tree. With profile default, the transaction core may
restart up to 3 times in 10 s before the whole node restarts. With strict, the node restarts at the
core's first failure. With chaos, which is for runs that kill all the time, 10000 restarts are
allowed. 'coppice tree --spec --profile NAME' prints the tree of a profile.`,
		Example: `  coppice config
  coppice config --json --set pool.max_txs=1000
  coppice config explain log.segment_bytes
  coppice config check /etc/coppice/coppice.toml`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := config.Resolve(a.home, config.Sources{Environ: os.Environ(), Set: set})
			if err != nil {
				return err
			}

			if asJSON {
				all := []settingJSON{}
				for _, k := range config.Keys() {
					o := s.Origin(k.Name)
					origin := originJSON{o.Layer.String(), o.Name, o.Line, o.Column}
					all = append(all, settingJSON{k.Name, jsonValue(k, s.Config), origin})
				}
				return printJSON(cmd.OutOrStdout(), all)
			}

			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, k := range config.Keys() {
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

// jsonValue returns the value of a key as JSON. Durations are strings.
func jsonValue(k config.Key, c config.Config) json.RawMessage {
	b, err := json.Marshal(k.Value(c))
	if err != nil {
		panic(err) // cannot happen: values are strings, numbers and booleans
	}
	return b
}
