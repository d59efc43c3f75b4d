package command

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/consensus"
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
	Held         []heldJSON `json:"held,omitempty"`
	PoolSize     uint64     `json:"pool_size"`
	Consensus    string     `json:"consensus"`
	Profile      string     `json:"profile"`
	Version      string     `json:"version"`
	LogIndex     uint64     `json:"log_index"`
	AppliedIndex uint64     `json:"applied_index"`
	History      string     `json:"history"`
	LogID        string     `json:"log_id"`

	Troubles []troubleJSON `json:"troubles,omitempty"`
}

// troubleJSON is one thing that is wrong, in "status --json".
type troubleJSON struct {
	Kind   string     `json:"kind"`
	Grave  bool       `json:"grave"`
	Text   string     `json:"text"`
	Where  string     `json:"where,omitempty"`
	Since  *time.Time `json:"since,omitempty"`
	Advice string     `json:"advice"`
}

func (a *app) statusCommand() *cobra.Command {
	var asJSON bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print whether the node is ready, and where its chain stands",
		Long: `Status prints whether the node is ready, and if not, what it waits for; and where its chain stands:
height, app hash, pool, log, peers and validators. It also prints what else is wrong, with what to
do. A node is ready when it takes transactions and sees them committed. Status exits 1 until the
node is ready, also with --json. With --wait it waits for that, and prints each new reason to
standard error.

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

			troubles, _ := c.Troubles(ctx) // an older node does not tell them
			out := cmd.OutOrStdout()
			if asJSON {
				j := statusOf(s)
				for _, t := range troubles {
					j.Troubles = append(j.Troubles,
						troubleJSON{t.Kind, t.Grave, t.Text, t.Where, timeOf(t.Since), t.Advice})
				}
				if printed := printJSON(out, j); printed != nil {
					return printed
				}
			} else {
				printStatus(out, s)
				printTroubles(out, s, troubles)
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

	for _, g := range s.Held {
		fmt.Fprintf(out, "gate       %s holds block %d, waiting for %s\n", g.Gate, g.Height, heldText(g.Sinks))
	}

	if h := r.GetHold(); h != nil {
		fmt.Fprintf(out, "hold       reset of epoch %d, decided at height %d, since %s: step %d of %d, %s\n", h.Epoch,
			h.Height, h.Since.AsTime().Format(time.RFC3339), h.Step, consensus.HoldSteps, h.Text)
	}

	if p := r.GetProcess(); p != nil {
		fmt.Fprintf(out, "process    %s since %s: %s (%d restarts, %d resets)\n", p.State,
			p.Since.AsTime().Local().Format(time.RFC3339), p.Text, p.Restarts, p.Resets)
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

// printTroubles writes what is wrong, for people, apart from what the state and the warnings say.
func printTroubles(out io.Writer, s *apiv1.StatusResponse, list []*apiv1.Trouble) {
	said := map[string]bool{s.Readiness.GetState(): true}
	for _, w := range s.Readiness.GetWarnings() {
		said[w.State] = true
	}

	for _, t := range list {
		if !said[t.Kind] {
			since := t.Since.AsTime().Local().Format(time.RFC3339)
			fmt.Fprintf(out, "trouble    %s, since %s: %s\n", t.Text, since, t.Advice)
		}
	}
}

// heldText describes the sinks that a gate waits for.
func heldText(sinks []*apiv1.HeldSink) string {
	var text []string
	for _, s := range sinks {
		at := "has not answered"
		if s.Height != nil {
			at = fmt.Sprintf("at height %d", *s.Height)
		}
		text = append(text, fmt.Sprintf("%s (%s, %s)", s.Name, s.State, at))
	}

	return strings.Join(text, ", ")
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

// heldJSON is a gate that holds a block.
type heldJSON struct {
	Gate   string         `json:"gate"`
	Height uint64         `json:"height"`
	Since  *time.Time     `json:"since,omitempty"`
	Sinks  []heldSinkJSON `json:"sinks"`
}

type heldSinkJSON struct {
	Name   string  `json:"name"`
	State  string  `json:"state"`
	Height *uint64 `json:"height,omitempty"`
}

func heldOf(list []*apiv1.HeldGate) (held []heldJSON) {
	for _, g := range list {
		row := heldJSON{Gate: g.Gate, Height: g.Height, Since: timeOf(g.Since)}
		for _, s := range g.Sinks {
			row.Sinks = append(row.Sinks, heldSinkJSON{Name: s.Name, State: s.State, Height: s.Height})
		}
		held = append(held, row)
	}

	return held
}

func statusOf(s *apiv1.StatusResponse) statusJSON {
	return statusJSON{
		ChainID: s.ChainId, Period: s.Period, Height: s.Height, AppHash: hex.EncodeToString(s.AppHash),
		BlockTime: timeOf(s.BlockTime),
		Ready:     s.Ready, readinessJSON: readinessOf(s.Readiness),
		Held: heldOf(s.Held), PoolSize: s.PoolSize, Consensus: s.Consensus,
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

	Hold    *resetHoldJSON `json:"hold,omitempty"`
	Process *processJSON   `json:"process,omitempty"`
}

// resetHoldJSON is the reset of the chain that is under way, in "status --json".
type resetHoldJSON struct {
	Epoch  uint64     `json:"epoch"`
	Height uint64     `json:"height"`
	Since  *time.Time `json:"since"`
	Step   uint32     `json:"step"`
	Text   string     `json:"text"`
	Long   bool       `json:"long"`
}

// processJSON is what the node does with the process of its consensus.
type processJSON struct {
	State    string     `json:"state"`
	Text     string     `json:"text"`
	At       *time.Time `json:"at,omitempty"`
	Since    *time.Time `json:"since,omitempty"`
	Restarts uint64     `json:"restarts"`
	Resets   uint64     `json:"resets"`
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

	if h := r.GetHold(); h != nil {
		out.Hold = &resetHoldJSON{h.Epoch, h.Height, timeOf(h.Since), h.Step, h.Text, h.Long}
	}

	if p := r.GetProcess(); p != nil {
		out.Process = &processJSON{State: p.State, Text: p.Text, At: timeOf(p.At), Since: timeOf(p.Since),
			Restarts: p.Restarts, Resets: p.Resets}
	}

	for _, w := range r.GetWarnings() {
		out.Warnings = append(out.Warnings, warningJSON{w.State, w.Reason})
	}

	return out
}
