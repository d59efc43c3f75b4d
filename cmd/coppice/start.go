package main

import (
	"cmp"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/coppice-go/coppice/node"
)

func (a *app) startCommand() *cobra.Command {
	var listen, profile, level string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Run the node in the foreground until it is told to stop",
		Long: `Start runs the node of a home. SIGINT or SIGTERM stops it in order, with exit code 0; a second one ends it at once. When
the tree gives up, start exits 6 with the reason; let a service manager start it again: the log brings everything back.`,
		Example: `  coppice start
  coppice start --profile strict --listen 127.0.0.1:7071`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLogger(level, asJSON)
			if err != nil {
				return usageError(cmd, "--log-level: %w", err)
			}
			defer log.Sync() // standard error needs none, and says so
			if _, err := node.ParseProfile(profile); profile != "" && err != nil {
				return usageError(cmd, "--profile: %w", err)
			}
			conf, err := node.Load(a.home)
			if err != nil {
				return err
			}
			conf.Listen = cmp.Or(listen, conf.Listen)
			conf.Profile = cmp.Or(node.Profile(profile), conf.Profile)
			n, err := node.New(a.home, conf, node.WithLogger(log), node.WithVersion(buildVersion().Version))
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			go func() {
				if addr, err := n.Addr(ctx); err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "listening on %s\n", addr)
				}
			}()
			return n.Run(ctx)
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "", "host:port to listen on, in place of the configuration's; port 0 takes a free one")
	f.StringVar(&profile, "profile", "", "limits of the tree, in place of the configuration's: default, strict or chaos")
	f.StringVar(&level, "log-level", "info", "diagnostics on standard error: debug, info, warn or error")
	f.BoolVar(&asJSON, "log-json", false, "diagnostics as JSON")
	return cmd
}

// newLogger writes diagnostics to standard error, for people or as JSON.
func newLogger(level string, asJSON bool) (*zap.Logger, error) {
	l, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, err
	}
	conf := zap.NewProductionEncoderConfig()
	conf.EncodeTime = zapcore.ISO8601TimeEncoder
	enc := zapcore.NewConsoleEncoder(conf)
	if asJSON {
		enc = zapcore.NewJSONEncoder(conf)
	}
	return zap.New(zapcore.NewCore(enc, zapcore.Lock(os.Stderr), l)), nil
}
