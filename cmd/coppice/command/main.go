package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/thejerf/suture/v4"

	"github.com/coppice-go/coppice/cmd/coppice/internal/top/early"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
)

// Program is what a program adds to the command line that we ship. The zero Program adds nothing.
type Program struct {
	// Backends are the program's own transaction backends. Every command that executes transactions
	// has them, besides the shipped ones: start, and verify with all other commands that replay.
	Backends []chain.Backend

	// Rounds is the program's service of rounds, which RoundsOf makes; nil: it has none.
	Rounds *Rounds

	// Kinds are kinds of consensus in addition to those that we ship.
	Kinds []consensus.Kind

	// Node are further options of the node that start runs, for instance node.WithEngine.
	Node []node.Option

	// Env names variables of the environment that the program reads. 'testnet start' passes them on
	// to its nodes, which otherwise get only a few.
	Env []string
}

// nodeOptions returns the options of a node that the program runs.
func (p Program) nodeOptions() []node.Option {
	options := append(sinks(), p.Node...)
	for _, b := range p.Backends {
		options = append(options, node.WithBackend(b))
	}
	if p.Rounds != nil {
		options = append(options, p.Rounds.option)
	}
	return options
}

// Main executes the command line of the process, os.Args, and returns its exit code. Errors are
// printed to standard error. SIGINT and SIGTERM stop the command in order. Call it once, from main:
//
//	func main() { os.Exit(command.Main(command.Program{Backends: []chain.Backend{Bank{}}})) }
func Main(p Program) int {
	early.Restore()

	ctx, stop := untilSignal(context.Background())
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	consensus.Register(append([]consensus.Kind{solo.Kind{}, comet.Kind{}}, p.Kinds...)...)
	root, out := newRoot(p), &stdout{file: os.Stdout, cancel: cancel}
	root.SetOut(out)
	err := root.ExecuteContext(ctx)

	if err != nil && out.empty() && wantsJSON(root, os.Args[1:]) {
		_ = printJSON(out, failureJSON{codeOf(err), failureText(err)}) // out keeps its error
	}

	err = out.finish(err)
	out.dieOfBrokenPipe()
	if err != nil {
		fmt.Fprintln(os.Stderr, "coppice:", failureText(err))
	}

	return codeOf(err)
}

// failureText returns the text of a command's error without what means something to the supervision
// tree only. The class exit.ErrConfig includes homes and files that cannot be used as they are. It
// is named only where the configuration itself is wrong; for the others, the exit code tells it.
func failureText(err error) string {
	text := strings.ReplaceAll(err.Error(), ": "+suture.ErrTerminateSupervisorTree.Error(), "")
	if errors.As(err, new(*config.Error)) {
		return text
	}
	return strings.ReplaceAll(text, exit.ErrConfig.Error()+": ", "")
}
