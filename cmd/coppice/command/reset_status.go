package command

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// managerStatus is a manager's status.
type managerStatus struct {
	State    string         `json:"state"`
	Since    time.Time      `json:"since"`
	ChainID  string         `json:"chain_id"`
	PID      int            `json:"pid"`
	Height   int64          `json:"height"`
	HeightAt time.Time      `json:"height_at,omitzero"`
	RPC      string         `json:"rpc,omitempty"`
	ABCI     string         `json:"abci,omitempty"`
	Failure  string         `json:"consensus_failure,omitempty"`
	Restarts int            `json:"restarts"`
	Resets   int            `json:"resets"`
	Last     string         `json:"last,omitempty"`
	Events   []managerEvent `json:"events,omitempty"`
}

type managerEvent struct {
	Seq   uint64    `json:"seq"`
	At    time.Time `json:"at"`
	State string    `json:"state"`
	Text  string    `json:"text"`
}

func (a *app) resetStatusCommand() *cobra.Command {
	var address string
	var watch, asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print what a manager does, and what it knows of its CometBFT",
		Long: `Status prints the state of a manager's machine: starting, running, waiting (for the next start),
gentle or hard (a reset is under way), stalled, given up, broken (CometBFT lives, and its consensus
has ended), stuck or down. With --watch it prints each change, until it is interrupted.`,
		Example: `  coppice reset status --manager 127.0.0.1:8080
  coppice reset status --watch --json --manager 127.0.0.1:8080`,
		Args:        words(),
		Annotations: map[string]string{homeUse: homeUnused},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return a.watchManager(cmd, address, asJSON)
			}

			var s managerStatus
			if err := a.askManager(cmd, address, "/status", nil, &s); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), s)
			}
			return printManager(cmd, s)
		},
	}
	managerFlag(cmd, &address)
	cmd.Flags().BoolVar(&watch, "watch", false, "print each change as it comes")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printManager(cmd *cobra.Command, s managerStatus) error {
	out := cmd.OutOrStdout()
	_, err := fmt.Fprintf(out, "%s since %s: chain %s, height %d, %d resets, %d restarts\n", s.State,
		s.Since.Format(time.RFC3339), s.ChainID, s.Height, s.Resets, s.Restarts)
	for _, l := range []struct{ name, text string }{{"last reset", s.Last}, {"rpc", s.RPC}, {"abci", s.ABCI},
		{"consensus failure", s.Failure}} {
		if l.text != "" && err == nil {
			_, err = fmt.Fprintf(out, "%s: %s\n", l.name, l.text)
		}
	}
	return err
}

// watchManager prints the events of a manager. The manager answers when there is one, or after a
// while.
func (a *app) watchManager(cmd *cobra.Command, address string, asJSON bool) error {
	last := uint64(0)
	for {
		var s managerStatus
		query := url.Values{"after": {strconv.FormatUint(last, 10)}, "wait": {"1"}}
		err := a.askManager(cmd, address, "/status", query, &s)
		if errors.Is(context.Cause(cmd.Context()), errInterrupted) {
			return nil
		}
		if err != nil {
			return err
		}

		if len(s.Events) > 0 && s.Events[0].Seq < last { // another life of the manager counts anew
			last = 0
		}
		for _, e := range s.Events {
			last = e.Seq
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), e)
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %-8s %s\n", e.At.Format(time.RFC3339), e.State, e.Text)
			}
			if err != nil {
				return err
			}
		}
	}
}
