package command

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
	var without []string
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Run the node in the foreground until it is told to stop",
		Long: `Start runs the node of a home. It prints diagnostics to standard error. Signals:

  SIGINT, SIGTERM  stop in order and exit 0; a second one exits at once, with 130 or 143
  SIGHUP           read the configuration and the certificate again; keys that cannot change while
                   the node runs are reported

When the tree gives up, start prints the reason and exits 6. A service manager should then start
the node again, and the log brings everything back: 'coppice service' prints a unit for systemd.
When a gate halts the node because of a sink, start stops in order and exits 7. Mend the sink, or
start once with --without-sink, and no gate waits for that sink until the process ends.

The configuration comes from coppice.toml, the environment and flags; a later one overrides an
earlier one. 'coppice config' prints what is in force.`,
		Example: `  coppice start
  coppice start --profile strict --listen 127.0.0.1:7071
  coppice start --log-level warn --log-format json --set pool.max_txs=50000
  coppice start --without-sink ledger`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.start(cmd, config.Sources{Environ: os.Environ(), Set: set}, node.WithoutSink(without...))
		},
	}
	set.register(cmd)
	cmd.Flags().StringSliceVar(&without, "without-sink", nil,
		"leave a sink out of this run, so that no gate waits for it")
	return cmd
}

// heapFloor is how much memory start reserves and never touches, so that it is not resident. Under
// load, the garbage collector of a small heap runs all the time and takes a fifth of the node's CPU
// time. With the floor, it runs only when the heap has grown by that much again.
const heapFloor = 64 << 20

func (a *app) start(cmd *cobra.Command, src config.Sources, opts ...node.Option) error {
	surviveLostOutput(cmd)
	floor := make([]byte, heapFloor)
	defer runtime.KeepAlive(floor)

	hangup, silence := onHangup() // first: a SIGHUP must not end a node that is starting
	defer silence()

	settings, err := config.Resolve(a.home, src)
	if err != nil {
		return err
	}
	log, level, err := newDiagnostics(settings.Config.Diagnostics)
	if err != nil {
		return err
	}
	defer log.Sync() // standard error cannot be synced, and returns an error that does not matter

	manager, err := sdnotify.Take()
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	defer manager.Close()

	s := &service{
		manager: manager, hangup: hangup, log: log, level: level, settings: settings, changed: make(chan struct{}, 1),
		resolve: func() (config.Settings, error) { return config.Resolve(a.home, src) },
	}

	opts = append(append(a.program.nodeOptions(), opts...), node.WithLogger(log), node.WithLevel(level),
		node.WithVersion(buildVersion().Version),
		node.WithObserver(supervisor.ObserverFunc(func(supervisor.Event) { s.change() })),
		node.WithProgress(s.progress))
	if s.node, err = node.New(a.home, settings.Config, opts...); err != nil {
		return err
	}

	ctx := cmd.Context()
	defer context.AfterFunc(ctx, s.node.Stop)()
	go func() {
		if addr, err := s.node.Addr(ctx); err == nil {
			fmt.Fprintf(cmd.OutOrStdout(), "listening on %s\n", addr)
		}
	}()

	reporting, stop := context.WithCancel(context.WithoutCancel(ctx)) // it also reports the stop
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.report(reporting, s.node.Stopping())
	}()

	err = s.node.Run(ctx)
	stop()
	<-done

	if err == nil {
		log.Info("stopped in order")
	}

	return err
}
