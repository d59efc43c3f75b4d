// Command coppice runs a Coppice node and talks to one. "coppice --help" lists what it does; every
// command has its own help with examples. Scripts may rely on the exit codes that "coppice --help"
// lists and on the output of the commands with --json.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/thejerf/suture/v4"
)

func main() { os.Exit(run()) }

// run executes the command line and returns the exit code.
func run() int {
	ctx, stop := untilSignal(context.Background())
	defer stop()

	root := newRoot()
	err := root.ExecuteContext(ctx)
	if err != nil {
		// The sentinel means something only to the tree.
		fmt.Fprintln(os.Stderr, "coppice:",
			strings.ReplaceAll(err.Error(), ": "+suture.ErrTerminateSupervisorTree.Error(), ""))
	}

	return codeOf(err)
}
