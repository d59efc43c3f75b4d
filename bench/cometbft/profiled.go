package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"syscall"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/supervisor/process"
)

// nodeCommand is the argument with which this program runs a node. The node writes a CPU profile of
// itself, and makes CometBFT write one too.
const nodeCommand = "run-node"

// profiled runs f until SIGTERM and writes a CPU profile of it.
func profiled(path string, f func(context.Context) error) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return err
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	err = f(ctx)
	pprof.StopCPUProfile()

	return errors.Join(err, out.Close())
}

func runNode(args []string) error {
	process.WatchParent()
	f := flag.NewFlagSet(nodeCommand, flag.ExitOnError)
	home := f.String("home", "", "home of the node")
	dir := f.String("profile", "", "directory for the CPU profiles")
	if err := f.Parse(args); err != nil {
		return err
	}
	c, err := config.Load(*home)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}

	n, err := node.New(*home, c, node.WithLogger(zap.NewNop()),
		node.WithConsensus(comet.Kind{Command: []string{self, child.Command, "--profile",
			filepath.Join(*dir, "comet.pprof")}}))
	if err != nil {
		return err
	}
	return profiled(filepath.Join(*dir, "coppice.pprof"), func(ctx context.Context) error {
		go func() {
			if addr, err := n.Addr(ctx); err == nil {
				fmt.Println(addr)
			}
		}()
		return n.Run(ctx)
	})
}

func runChild(args []string) error {
	process.WatchParent()
	f := flag.NewFlagSet(child.Command, flag.ExitOnError)
	profile := f.String("profile", "", "file")
	var o child.Options
	o.Flags(f)
	if err := f.Parse(args); err != nil {
		return err
	}

	return profiled(*profile, func(ctx context.Context) error { return child.Run(ctx, o) })
}
