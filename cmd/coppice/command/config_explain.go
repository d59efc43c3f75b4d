package command

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/config"
)

// keyJSON is an element of what "config explain --json" prints.
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

func configExplainCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain [KEY...]",
		Short: "Explain keys of the configuration",
		Long: `Explain prints what each KEY means, or what every key means: its type, default and valid values, and
the environment variable and the flag that set it.`,
		Example: `  coppice config explain
  coppice config explain listen pool.max_txs`,
		ValidArgsFunction: completeKey,
		Annotations:       map[string]string{homeUse: homeUnused},
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

// explain prints a key for people.
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
		live = "takes effect on SIGHUP and at the next start"
	}

	fmt.Fprintf(out, "  type         %s\n  default      %s\n  wants        %s\n  environment  %s\n  flag         "+
		"%s\n  change       %s\n",
		typ, k.TOML(config.Defaults()), k.Want(), k.Env(), flagOf(k), live)
}

// flagOf returns the flag of start that sets a key.
func flagOf(k config.Key) string {
	if k.Flag != "" {
		return "--" + k.Flag
	}
	return "--set " + k.Name + "=..."
}
