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

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/solo"
)

func main() { os.Exit(run()) }

// run executes the command line and returns the exit code.
func run() int {
	ctx, stop := untilSignal(context.Background())
	defer stop()

	consensus.Register(solo.Kind{}, comet.Kind{})
	root := newRoot()
	err := root.ExecuteContext(ctx)
	if err != nil {
		// This text means something to the supervision tree, and nothing to the user.
		fmt.Fprintln(os.Stderr, "coppice:",
			strings.ReplaceAll(err.Error(), ": "+suture.ErrTerminateSupervisorTree.Error(), ""))
	}

	return codeOf(err)
}
