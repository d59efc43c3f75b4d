package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	cometmanager "github.com/coppice-go/coppice/engines/consensus/comet/manager"
	"github.com/coppice-go/coppice/internal/flock"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/supervisor"
)

// managerFlags are the flags of the manager. A flag that is not given leaves its value to the
// environment.
type managerFlags struct {
	proxyApp, listen, tokenFile, chainName string
	open, restart                          bool
	stall                                  time.Duration
}

func (a *app) managerCommand() *cobra.Command {
	var f managerFlags
	cmd := &cobra.Command{
		Use:   "manager",
		Short: "Run and reset CometBFT for an application of somebody else",
		Long: `Manager runs CometBFT in a home that no node of ours owns, for an application that speaks ABCI at
--proxy-app, and resets it over HTTP: /params, /gentle_reset, /hard_reset, /app_hash and /status.
If --home has no CometBFT home, manager makes one. It starts CometBFT again when that ends, loses
its application, or stops its RPC.

The environment has the variables of the published manager, and a flag comes before its variable:

  PROXY_APP, TMHOME       --proxy-app and --home
  CREATE_EMPTY_BLOCKS     true or false, in place of the configuration's value
  P2P_LADDR, RPC_LADDR    tcp://host:port, in place of the configuration's
  WRITE_TO_LOG, LOG_FILE  true writes all lines to the file, too (tendermint.log)
  LOG_FILE_MAX_BYTES      the size of that file; one older file stays (50 MiB)
  DEV_MODE, TMSTATE, ID   1 copies the home before a hard reset to TMSTATE/period_N/nodeID, with
                          its keys (/tm_state)
  USE_GRPC                only false

A hard reset keeps the last signing state of each chain id in HOME.signing, beside the home, and
puts it back when that id returns. Keep that directory as you keep the validator's key.

The API can drop the chain. Beyond loopback it wants a token, which clients send as "authorization:
Bearer TOKEN", or --allow-unauthenticated, for clients that send none.`,
		Example: `  coppice manager --home /tendermint/node0 --proxy-app tcp://127.0.0.1:26658
  curl 'http://127.0.0.1:8080/hard_reset?period_count=1&initial_height=1'`,
		Args:        words(),
		Annotations: map[string]string{homeUse: homeUnused},
		RunE:        func(cmd *cobra.Command, _ []string) error { return a.manager(cmd, f) },
	}
	cmd.Flags().StringVar(&f.proxyApp, "proxy-app", "", "address of the application: tcp://host:port or unix://path")
	cmd.Flags().StringVar(&f.listen, "listen", cometmanager.DefaultListen, "host:port of the HTTP API")
	cmd.Flags().StringVar(&f.tokenFile, "token-file", "", "file with the token that the API wants")
	cmd.Flags().BoolVar(&f.open, "allow-unauthenticated", false, "let everybody use the API who can reach it")
	cmd.Flags().StringVar(&f.chainName, "chain-name", cometmanager.DefaultChainName,
		"what stands before the number of the period in a chain id")
	cmd.Flags().DurationVar(&f.stall, "stall-after", time.Minute,
		"how long the chain may make no block until that is told")
	cmd.Flags().BoolVar(&f.restart, "restart-stalled", false, "restart CometBFT then, at most five times")

	return cmd
}

func (a *app) manager(cmd *cobra.Command, f managerFlags) error {
	surviveLostOutput(cmd)
	settings, access, err := f.settings(cmd, a.home)
	if err != nil {
		return err
	}

	journal, err := cometmanager.NewJournal(cmd.OutOrStdout(), settings.LogFile, settings.LogBytes)
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	defer journal.Close()

	ctx := cmd.Context()
	m, err := cometmanager.New(ctx, settings, cometmanager.Options{
		Access: access, Journal: journal,
		Observe: func(e cometmanager.Event) { journal.Line("coppice: " + e.Text) },
		Observers: []supervisor.Observer{supervisor.ObserverFunc(func(e supervisor.Event) {
			managerFault(journal, e)
		})},
	})

	switch {
	case errors.Is(err, flock.ErrLocked):
		return fmt.Errorf("%w: %w", exit.ErrHomeInUse, err)
	case errors.Is(err, cometmanager.ErrSettings), errors.Is(err, cometmanager.ErrOpen):
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	case err != nil:
		return exit.Classify(err)
	}

	journal.Line("coppice: listening on " + m.Addr())
	err = m.Serve(ctx)

	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		err = errors.New("the manager has ended")
	}

	return fmt.Errorf("%w: %w", exit.ErrGaveUp, err)
}

// managerFault tells what the tree of the manager reports: ends that nobody has asked for.
func managerFault(j *cometmanager.Journal, e supervisor.Event) {
	switch e := e.(type) {
	case supervisor.ChildExited:
		if err := e.Exit.Err; err != nil && !errors.Is(err, context.Canceled) {
			j.Line(fmt.Sprintf("coppice: %s has ended: %v", e.Head().Path, err))
		}
	case supervisor.ChildStartFailed:
		j.Line(fmt.Sprintf("coppice: %s cannot be started: %v", e.Head().Path, e.Err))
	}
}

// settings returns the settings of the environment, with the flags that were given in their place.
func (f managerFlags) settings(cmd *cobra.Command, home string) (cometmanager.Settings, cometmanager.Access, error) {
	s, err := cometmanager.FromEnvironment(os.Getenv)
	if err != nil {
		return s, cometmanager.Access{}, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	if cmd.Flags().Changed("home") {
		s.Home = home
	}
	if f.proxyApp != "" {
		s.ProxyApp = f.proxyApp
	}
	s.ChainName, s.StallAfter, s.RestartStalled = f.chainName, f.stall, f.restart

	access := cometmanager.Access{Listen: f.listen, AllowUnauthenticated: f.open}
	if f.tokenFile != "" {
		data, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return s, access, fmt.Errorf("%w: --token-file: %w", exit.ErrConfig, err)
		}
		if access.Token = strings.TrimSpace(string(data)); access.Token == "" {
			return s, access, fmt.Errorf("%w: --token-file %s is empty, want a token", exit.ErrConfig, f.tokenFile)
		}
	}

	return s, access, nil
}
