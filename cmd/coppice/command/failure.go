package command

import (
	"slices"

	"github.com/spf13/cobra"
)

// failureJSON is what a command with --json prints if it fails before it has printed anything. The
// text of the error is also on standard error.
type failureJSON struct {
	ExitCode int    `json:"exit_code"`
	Error    string `json:"error"`
}

// wantsJSON reports whether the command line asks for JSON. It does not rely on the parsed flags,
// because the command line may be invalid.
func wantsJSON(root *cobra.Command, args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	if !slices.Contains(args, "--json") && !slices.Contains(args, "--json=true") {
		return false
	}

	cmd, _, err := root.Find(args)
	return err == nil && cmd.Flags().Lookup("json") != nil
}
