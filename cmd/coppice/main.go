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
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	consensus.Register(solo.Kind{}, comet.Kind{})
	root, out := newRoot(), &stdout{file: os.Stdout, cancel: cancel}
	root.SetOut(out)
	err := root.ExecuteContext(ctx)

	if err != nil && out.empty() && wantsJSON(root, os.Args[1:]) {
		_ = printJSON(out, failureJSON{codeOf(err), failureText(err)}) // out keeps its error
	}

	err = out.finish(err)
	if out.brokenPipe() {
		dieOfBrokenPipe()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "coppice:", failureText(err))
	}

	return codeOf(err)
}

// failureText returns the text of a command's error without what means something to the supervision
// tree only.
func failureText(err error) string {
	return strings.ReplaceAll(err.Error(), ": "+suture.ErrTerminateSupervisorTree.Error(), "")
}
