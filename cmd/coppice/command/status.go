package command

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// statusJSON is what "status --json" prints.
type statusJSON struct {
	ChainID      string     `json:"chain_id"`
	Period       uint64     `json:"period"`
	Height       uint64     `json:"height"`
	AppHash      string     `json:"app_hash"`
	BlockTime    *time.Time `json:"block_time,omitempty"`
	Ready        bool       `json:"ready"`
	PoolSize     uint64     `json:"pool_size"`
	Consensus    string     `json:"consensus"`
	Profile      string     `json:"profile"`
	Version      string     `json:"version"`
	LogIndex     uint64     `json:"log_index"`
	AppliedIndex uint64     `json:"applied_index"`
	History      string     `json:"history"`
	LogID        string     `json:"log_id"`
}

func (a *app) statusCommand() *cobra.Command {
	var asJSON bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print where the node's chain stands; fail until the node is ready",
		Long: `Status prints where the node's chain stands: chain, height, app hash, pool and log. It exits 1 until
the node is ready; with --wait it waits for that.`,
		Example: `  coppice status
  coppice status --wait 30s && coppice load
  coppice status --json`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wait < 0 {
				return usageError(cmd, "--wait is %v, want 0 or more", wait)
			}

			ctx := cmd.Context()
			c := a.client()
			s, err := status(ctx, c, wait)
			if err != nil {
				if why := a.notRunning(); why != nil {
					return why
				}
				return fmt.Errorf("not ready: %w", a.nodeError(ctx, err))
			}

			if asJSON {
				return printJSON(cmd.OutOrStdout(), statusOf(s))
			}

			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "chain      %s\n", s.ChainId)
			fmt.Fprintf(out, "height     %d of period %d\n", s.Height, s.Period)
			fmt.Fprintf(out, "app hash   %x\n", s.AppHash)
			if t := timeOf(s.BlockTime); t != nil {
				fmt.Fprintf(out, "block time %s\n", t.Format(time.RFC3339Nano))
			}

			fmt.Fprintf(out, "pool       %d transactions\n", s.PoolSize)
			fmt.Fprintf(out, "log        %d records durable, %d applied\n", s.LogIndex, s.AppliedIndex)
			fmt.Fprintf(out, "node       %s, consensus %s, profile %s\n", s.Version, s.Consensus, s.Profile)

			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to wait until the node is ready")

	return cmd
}

// status asks the node for its status, once or, with a wait, until the node is ready.
func status(ctx context.Context, c *client.Client, wait time.Duration) (*apiv1.StatusResponse, error) {
	s, err := c.Status(ctx)
	if err == nil || wait <= 0 {
		return s, err
	}

	waiting, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("gave up after %v", wait))
	defer cancel()

	return c.WaitReady(waiting)
}

func statusOf(s *apiv1.StatusResponse) statusJSON {
	return statusJSON{
		ChainID: s.ChainId, Period: s.Period, Height: s.Height, AppHash: hex.EncodeToString(s.AppHash),
		BlockTime: timeOf(s.BlockTime),
		Ready:     s.Ready, PoolSize: s.PoolSize, Consensus: s.Consensus, Profile: s.Profile, Version: s.Version,
		LogIndex: s.LogIndex, AppliedIndex: s.AppliedIndex,
		History: s.History, LogID: hex.EncodeToString(s.LogId),
	}
}
