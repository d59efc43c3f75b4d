package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/config"
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

// keyJSON is what "config explain --json" prints of a key.
type keyJSON struct {
	Key         string `json:"key"`
	Doc         string `json:"doc"`
	Type        string `json:"type"`
	Unit        string `json:"unit,omitempty"`
	Default     any    `json:"default"`
	Want        string `json:"want"`
	Environment string `json:"environment"`
	Flag        string `json:"flag"`
	Live        bool   `json:"live"`
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
			s, err := config.Resolve(a.home, config.Sources{Environ: os.Environ(), Set: set})
			if err != nil {
				return err
			}

			if asJSON {
				all := []settingJSON{}
				for _, k := range config.Keys() {
					o := s.Origin(k.Name)
					all = append(all,
						settingJSON{k.Name, jsonValue(k, s.Config),
							originJSON{o.Layer.String(), o.Name, o.Line, o.Column}})
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

// jsonValue is a key's value as JSON has it; durations as they are written.
func jsonValue(k config.Key, c config.Config) json.RawMessage {
	b, err := json.Marshal(k.Value(c))
	if err != nil {
		panic(err) // strings, numbers and booleans
	}
	return b
}

// checkedJSON is what "config check --json" prints of a file that is valid.
type checkedJSON struct {
	File  string `json:"file"`
	Valid bool   `json:"valid"`
}

func configCheckCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "check FILE",
		Short:   "Check a configuration file, which need not be in a home",
		Example: `  coppice config check coppice.toml`,
		Args:    words("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := config.CheckFile(args[0]); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), checkedJSON{args[0], true})
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is valid\n", args[0])
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func configExplainCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain [KEY...]",
		Short: "Tell what keys of the configuration mean; all of them, or those named",
		Example: `  coppice config explain
  coppice config explain listen pool.max_txs`,
		RunE: func(cmd *cobra.Command, args []string) error {
			all := config.Keys()
			if len(args) > 0 {
				all = nil
			}

			for _, name := range args {
				k, near, ok := config.LookupKey(name)
				if !ok {
					hint := ""
					if len(near) > 0 {
						hint = ", did you mean " + strings.Join(near, " or ") + "?"
					}
					return usageError(cmd, "there is no key %q%s", name, hint)
				}

				all = append(all, k)
			}

			out := cmd.OutOrStdout()

			if asJSON {
				docs := []keyJSON{}
				for _, k := range all {
					docs = append(docs, keyJSON{
						k.Name, k.Doc, k.Type(), k.Unit, jsonValue(k, config.Defaults()), k.Want(), k.Env(),
						flagOf(k), k.Live,
					})
				}
				return printJSON(out, docs)
			}

			for i, k := range all {
				if i > 0 {
					fmt.Fprintln(out)
				}
				explain(out, k)
			}

			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func explain(out io.Writer, k config.Key) {
	fmt.Fprintf(out, "%s\n", k.Name)
	for sentence := range strings.SplitSeq(strings.ReplaceAll(k.Doc, ". ", ".\n"), "\n") {
		fmt.Fprintf(out, "  %s\n", sentence)
	}

	typ := k.Type()
	if k.Unit != "" && typ == "integer" {
		typ += ", " + k.Unit
	}

	live := "takes effect at the next start"
	if k.Live {
		live = "takes effect on SIGHUP, too"
	}

	fmt.Fprintf(out, "  type         %s\n  default      %s\n  wants        %s\n  environment  %s\n  flag         "+
		"%s\n  change       %s\n",
		typ, k.TOML(config.Defaults()), k.Want(), k.Env(), flagOf(k), live)
}

// flagOf is the flag of start that sets a key.
func flagOf(k config.Key) string {
	if k.Flag != "" {
		return "--" + k.Flag
	}
	return "--set " + k.Name + "=..."
}
