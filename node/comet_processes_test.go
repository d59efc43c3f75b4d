package node

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	"github.com/coppice-go/coppice/engines/consensus/comet/comettest"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/supervisor/process"
)

// cometNodeCommand as the first argument makes the test binary a node with CometBFT.
const cometNodeCommand = "comet-node"

// cometLogLevel is the environment variable for CometBFT's log_level. It helps to find a cause in
// node.log.
const cometLogLevel = "COPPICE_COMET_LOG"

// RunReexecuted is the main function of the test binary if that is one of the two processes of a
// campaign. TestMain calls it.
func RunReexecuted(args []string) (code int, is bool) {
	if len(args) < 2 {
		return 0, false
	}
	run := map[string]func([]string) error{cometNodeCommand: runCometNode, child.Command: runCometChild}[args[1]]
	if run == nil {
		return 0, false
	}

	process.WatchParent()
	err := run(args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if args[1] == child.Command {
		return child.Status(err), true
	}

	return exit.Code(err), true
}

func reporterFlags(f *flag.FlagSet) *reporter {
	r := &reporter{}
	f.StringVar(&r.socket, "steps", "", "")
	f.BoolVar(&r.all, "all", false, "")
	return r
}

// runCometNode runs the node of a home as the coppice binary does, and reports its steps to the
// test.
func runCometNode(args []string) error {
	f := flag.NewFlagSet(cometNodeCommand, flag.ContinueOnError)
	home, r := f.String("home", "", ""), reporterFlags(f)
	if err := f.Parse(args); err != nil {
		return err
	}
	c, err := config.Load(*home)
	if err != nil {
		return err
	}

	steps := &commitPath{reporter: *r}
	opts := []Option{
		WithLogger(tellingLogger(steps)),
		WithConsensus(comet.Kind{Command: []string{os.Args[0], child.Command, "--steps", r.socket,
			fmt.Sprintf("--all=%t", r.all)}}),
	}

	if r.all {
		opts = append(opts, WithBackend(steppedBackend{kv.New(), steps}), WithDisk(newSteppedFS(steps), vfs.Default))
	}
	n, err := New(*home, c, opts...)
	if err != nil {
		return err
	}

	n.driver = steppedDriver{n.driver, steps}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	return n.Run(ctx)
}

// tellingLogger writes to stderr, and reports to the test when CometBFT says that it exits at a
// crash point of its own.
func tellingLogger(steps *commitPath) *zap.Logger {
	c := zap.NewDevelopmentConfig()
	c.Level, c.DisableStacktrace = zap.NewAtomicLevelAt(zap.InfoLevel), true
	if os.Getenv(cometLogLevel) != "" {
		c.Level = zap.NewAtomicLevelAt(zap.DebugLevel)
	}
	log, err := c.Build(zap.Hooks(func(e zapcore.Entry) error {
		var index int64
		// CometBFT's own line, because the supervisor's report of the exit contains that text too
		if after, ok := strings.CutPrefix(e.Message, "*** fail-test "); ok {
			if _, err := fmt.Sscan(after, &index); err == nil {
				steps.at(failPoint, index)
			}
		}
		return nil
	}))

	if err != nil {
		return zap.NewNop()
	}

	return log
}

// runCometChild runs CometBFT. At its start the test may answer with the crash point at which it
// must exit. If the test wants all steps, the connections go through a relay.
func runCometChild(args []string) error {
	var o child.Options
	f := flag.NewFlagSet(child.Command, flag.ContinueOnError)
	r := reporterFlags(f)
	o.Flags(f)
	if err := f.Parse(args); err != nil {
		return err
	}

	if index := r.at(childStarts, 0); index != "" {
		if err := os.Setenv("FAIL_TEST_INDEX", index); err != nil {
			return err
		}
	}

	if r.all {
		to := o.ABCI
		o.ABCI = filepath.Join(filepath.Dir(to), fmt.Sprintf("relay-%d.sock", os.Getpid()))
		l, err := net.Listen("unix", o.ABCI)
		if err != nil {
			return err
		}
		go comettest.Relay(l, to, r.relayed)
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	return child.Run(ctx, o)
}

// relayed reports to the test the messages on CometBFT's connections.
func (r reporter) relayed(m comettest.Relayed) {
	if s, told := map[comettest.Relayed]step{
		{Request: "FinalizeBlock"}: finalizeSent, {Request: "Commit"}: commitSent, {Request: "Info"}: infoSent,
		{Response: "FinalizeBlock"}: finalizeAnswered, {Response: "FinalizeBlock", Delivered: true}: finalizeDelivered,
		{Response: "Commit"}: commitAnswered, {Response: "Commit", Delivered: true}: commitDelivered,
	}[comettest.Relayed{Request: m.Request, Response: m.Response, Delivered: m.Delivered}]; told {
		r.at(s, m.Height)
	}
}
