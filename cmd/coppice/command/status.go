package command

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// statusJSON is what "status --json" prints.
type statusJSON struct {
	ChainID   string     `json:"chain_id"`
	Period    uint64     `json:"period"`
	Height    uint64     `json:"height"`
	AppHash   string     `json:"app_hash"`
	BlockTime *time.Time `json:"block_time,omitempty"`
	Ready     bool       `json:"ready"`
	readinessJSON
	PoolSize     uint64 `json:"pool_size"`
	Consensus    string `json:"consensus"`
	Profile      string `json:"profile"`
	Version      string `json:"version"`
	LogIndex     uint64 `json:"log_index"`
	AppliedIndex uint64 `json:"applied_index"`
	History      string `json:"history"`
	LogID        string `json:"log_id"`
}

func (a *app) statusCommand() *cobra.Command {
	var asJSON bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print whether the node is ready, and where its chain stands",
		Long: `Status prints whether the node is ready, and if not, what it waits for; and where its chain stands:
height, app hash, pool, log, peers and validators. A node is ready when it takes transactions and
sees them committed. Status exits 1 until the node is ready, also with --json. With --wait it waits
for that, and prints each new reason to standard error.

The states are listed in docs/operating.md.`,
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
			defer c.CloseIdle()

			s, err := status(ctx, c, wait, cmd.ErrOrStderr())
			if err != nil && s == nil {
				if why := a.notRunning(); why != nil {
					return why
				}
				return fmt.Errorf("not ready: %w", a.nodeError(ctx, err))
			}

			out := cmd.OutOrStdout()
			if asJSON {
				if printed := printJSON(out, statusOf(s)); printed != nil {
					return printed
				}
			} else {
				printStatus(out, s)
			}

			switch {
			case err != nil:
				return fmt.Errorf("not ready: %w", a.nodeError(ctx, err))
			case !s.Ready:
				return fmt.Errorf("not ready: %s", client.ReadinessText(s.Readiness))
			}

			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to wait until the node is ready")

	return cmd
}

// status asks the node for its status, once or, with a wait, until the node is ready. It prints
// each new reason why the node is not ready to progress. If the wait is over, it returns both an
// error and the last status, if there is one.
func status(ctx context.Context, c *client.Client, wait time.Duration,
	progress io.Writer) (*apiv1.StatusResponse, error) {
	s, err := statusNow(ctx, c)
	if err == nil && s.Ready || wait <= 0 {
		return s, err
	}

	waiting, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("gave up after %v", wait))
	defer cancel()

	ready, err := c.WatchReady(waiting, func(r *apiv1.Readiness) {
		fmt.Fprintf(progress, "coppice: waiting: %s\n", client.ReadinessText(r))
	})
	if err == nil || ctx.Err() != nil {
		return ready, err
	}

	last, lost := statusNow(ctx, c)
	if lost != nil {
		return nil, err
	}

	return last, err
}

// statusNow asks the node for its status once. If the engines of the node are down, it returns what
// the admin service knows: whether the node is ready, and why not.
func statusNow(ctx context.Context, c *client.Client) (*apiv1.StatusResponse, error) {
	s, err := c.Status(ctx)
	if err == nil && s.Readiness == nil { // a node of an older version
		s.Readiness = &apiv1.Readiness{State: "ready"}
	}
	if err == nil || connect.CodeOf(err) != connect.CodeUnavailable {
		return s, err
	}

	h, other := c.Health(ctx)
	if other != nil || h.Readiness == nil {
		return nil, err
	}

	return &apiv1.StatusResponse{Ready: false, Readiness: h.Readiness}, nil
}

// printStatus writes a status for people. The lines of a chain that is not known are left out.
func printStatus(out io.Writer, s *apiv1.StatusResponse) {
	r := s.Readiness
	fmt.Fprintf(out, "state      %s\n", client.ReadinessText(r))
	for _, w := range r.GetWarnings() {
		fmt.Fprintf(out, "warning    %s: %s\n", w.State, w.Reason)
	}

	if s.ChainId != "" {
		fmt.Fprintf(out, "chain      %s\n", s.ChainId)
		fmt.Fprintf(out, "height     %d of period %d\n", s.Height, s.Period)
		fmt.Fprintf(out, "app hash   %x\n", s.AppHash)
		if t := timeOf(s.BlockTime); t != nil {
			fmt.Fprintf(out, "block time %s\n", t.Format(time.RFC3339Nano))
		}
	}

	if r.GetPowerTotal() > 0 {
		fmt.Fprintf(out, "validators power %d of %d present%s\n", r.PowerPresent, r.PowerTotal, signingText(r))
		fmt.Fprintf(out, "peers      %d connected, %d "+
			"configured%s\n", r.PeersConnected, r.PeersConfigured, aheadText(r))
	}

	if s.Version != "" {
		fmt.Fprintf(out, "pool       %d transactions\n", s.PoolSize)
		fmt.Fprintf(out, "log        %d records durable, %d applied\n", s.LogIndex, s.AppliedIndex)
		fmt.Fprintf(out, "node       %s, consensus %s, profile %s\n", s.Version, s.Consensus, s.Profile)
	}
}

func signingText(r *apiv1.Readiness) string {
	switch r.Signing {
	case "":
		return "; this node is no validator"
	case "signing":
		return "; this node signs"
	}
	return "; this node does not sign: " + r.Signing
}

func aheadText(r *apiv1.Readiness) string {
	if r.PeersHeight <= r.Height {
		return ""
	}
	return fmt.Sprintf("; the highest is at %d", r.PeersHeight)
}

func statusOf(s *apiv1.StatusResponse) statusJSON {
	return statusJSON{
		ChainID: s.ChainId, Period: s.Period, Height: s.Height, AppHash: hex.EncodeToString(s.AppHash),
		BlockTime: timeOf(s.BlockTime),
		Ready:     s.Ready, readinessJSON: readinessOf(s.Readiness), PoolSize: s.PoolSize, Consensus: s.Consensus,
		Profile: s.Profile, Version: s.Version, LogIndex: s.LogIndex, AppliedIndex: s.AppliedIndex,
		History: s.History, LogID: hex.EncodeToString(s.LogId),
	}
}

// readinessJSON is the readiness in "status --json".
type readinessJSON struct {
	State    string        `json:"state"`
	Reason   string        `json:"reason,omitempty"`
	Since    *time.Time    `json:"since,omitempty"`
	Warnings []warningJSON `json:"warnings,omitempty"`

	PeersConnected  uint32   `json:"peers_connected"`
	PeersConfigured uint32   `json:"peers_configured"`
	PeersHeight     uint64   `json:"peers_height,omitempty"`
	CatchingUp      bool     `json:"catching_up"`
	PowerPresent    int64    `json:"power_present,omitempty"`
	PowerTotal      int64    `json:"power_total,omitempty"`
	Missing         []string `json:"missing,omitempty"`
	Signing         string   `json:"signing,omitempty"`
	Evidence        uint64   `json:"evidence,omitempty"`
	ClockOffset     float64  `json:"clock_offset_seconds,omitempty"`
}

type warningJSON struct {
	State  string `json:"state"`
	Reason string `json:"reason"`
}

func readinessOf(r *apiv1.Readiness) readinessJSON {
	out := readinessJSON{
		State: r.GetState(), Reason: r.GetReason(), Since: timeOf(r.GetSince()), PeersConnected: r.GetPeersConnected(),
		PeersConfigured: r.GetPeersConfigured(), PeersHeight: r.GetPeersHeight(), CatchingUp: r.GetCatchingUp(),
		PowerPresent: r.GetPowerPresent(), PowerTotal: r.GetPowerTotal(), Missing: r.GetMissing(),
		Signing: r.GetSigning(), Evidence: r.GetEvidence(), ClockOffset: r.GetClockOffset().AsDuration().Seconds(),
	}

	for _, w := range r.GetWarnings() {
		out.Warnings = append(out.Warnings, warningJSON{w.State, w.Reason})
	}

	return out
}
