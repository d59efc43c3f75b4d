package main

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/sdnotify"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/supervisor"
)

func (a *app) startCommand() *cobra.Command {
	var set settingFlags
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Run the node in the foreground until it is told to stop",
		Long: `Start runs the node of a home. What it prints of itself goes to standard error.

  SIGINT, SIGTERM  stop in order, with exit code 0; a second one ends the process at once, with 130 or 143
  SIGHUP           read configuration and certificate again; what can not change while running is reported

When the tree gives up, start exits 6 with the reason; let a service manager start it again ("coppice service" prints a
unit for systemd): the log brings everything back. Values come from coppice.toml, the environment and flags, the last one
counts; "coppice config" shows what is in force.`,
		Example: `  coppice start
  coppice start --profile strict --listen 127.0.0.1:7071
  coppice start --log-level warn --log-format json --set pool.max_txs=50000`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.start(cmd, config.Sources{Environ: os.Environ(), Set: set})
		},
	}
	set.register(cmd)
	return cmd
}

// heapFloor is memory that is reserved and never touched, so it is not resident. The collector of a
// small heap runs all the time under load, a fifth of the node's work; with the floor it runs when
// the heap has grown by as much again.
const heapFloor = 64 << 20

func (a *app) start(cmd *cobra.Command, src config.Sources) error {
	floor := make([]byte, heapFloor)
	defer runtime.KeepAlive(floor)

	hangup, silence := onHangup() // before all else: a SIGHUP must not end a node that only begins
	defer silence()

	settings, err := config.Resolve(a.home, src)
	if err != nil {
		return err
	}
	log, level, err := newDiagnostics(settings.Config.Diagnostics)
	if err != nil {
		return err
	}
	defer log.Sync() // standard error needs none, and says so

	manager, err := sdnotify.Take()
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	defer manager.Close()

	s := &service{
		manager: manager, hangup: hangup, log: log, level: level, settings: settings, changed: make(chan struct{}, 1),
		resolve: func() (config.Settings, error) { return config.Resolve(a.home, src) },
	}

	s.node, err = node.New(a.home, settings.Config, node.WithLogger(log), node.WithVersion(buildVersion().Version),
		node.WithObserver(supervisor.ObserverFunc(func(supervisor.Event) {
			s.change()
		})), node.WithProgress(s.progress))

	if err != nil {
		return err
	}

	ctx := cmd.Context()
	go func() {
		if addr, err := s.node.Addr(ctx); err == nil {
			fmt.Fprintf(cmd.OutOrStdout(), "listening on %s\n", addr)
		}
	}()

	reporting, stop := context.WithCancel(context.WithoutCancel(ctx)) // it also tells how the stop goes
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.report(reporting, ctx.Done())
	}()

	err = s.node.Run(ctx)
	stop()
	<-done

	return err
}
