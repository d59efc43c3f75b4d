package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

// stoppedJSON is what "stop --json" prints.
type stoppedJSON struct {
	PID     int64   `json:"pid"`
	Stopped bool    `json:"stopped"`
	Seconds float64 `json:"seconds"`
}

func (a *app) stopCommand() *cobra.Command {
	var asJSON bool
	wait := time.Minute
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the running node of a home in order",
		Long: `Stop asks the running node to stop in order, as a SIGTERM does, and waits until its process has left
the home. It needs the admin token, which it reads from the home. It exits 0 when the node has
stopped in order, and 1 if no node runs, if the node does not stop within --wait, or if it ended in
another way. The node itself exits 0, so a service manager that restarts on failure leaves it
stopped.`,
		Example: `  coppice stop
  coppice stop --wait 5m && coppice verify`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wait <= 0 {
				return usageError(cmd, "--wait is %v, want more than 0", wait)
			}
			ctx, cancel, c, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer cancel()

			began := time.Now()
			asked, err := c.Stop(ctx)
			if err != nil {
				return a.nodeError(ctx, err)
			}

			waiting, done := context.WithTimeoutCause(cmd.Context(), wait,
				fmt.Errorf("process %d has not stopped within %v (--wait); it goes on stopping", asked.Pid, wait))
			defer done()

			if err := a.awaitStop(waiting, c, asked.Pid); err != nil {
				return err
			}

			took := time.Since(began)
			if asJSON {
				return printJSON(cmd.OutOrStdout(), stoppedJSON{asked.Pid, true, took.Seconds()})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "stopped process %d in %v\n", asked.Pid,
				took.Round(time.Millisecond))

			return err
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", wait, "how long to wait until the node has stopped")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")

	return cmd
}

// lookForStop is how often awaitStop looks.
const lookForStop = 50 * time.Millisecond

// awaitStop waits until the process pid, which was told to stop, has ended.
func (a *app) awaitStop(ctx context.Context, c *client.Client, pid int64) error {
	look := time.NewTicker(lookForStop)
	defer look.Stop()

	for {
		gone, err := a.hasStopped(ctx, c, pid)
		if err != nil || gone {
			return err
		}

		select {
		case <-look.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// hasStopped reports whether the process pid has left the home, or no longer answers at --address.
// Another process may have taken its place: a service manager may have started the node again.
func (a *app) hasStopped(ctx context.Context, c *client.Client, pid int64) (bool, error) {
	if a.address != "" {
		s, err := c.HostStatus(ctx)
		return err != nil && ctx.Err() == nil || err == nil && s.Pid != pid, nil
	}

	n, err := api.ReadNodeFile(a.home)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	case err == nil && int64(n.PID) != pid:
		return true, nil
	case err == nil && alive(n.PID):
		return false, nil
	}

	lock, locked := home.Lock(a.home) // the node removes its node.json just before it unlocks the home
	if locked != nil {
		if errors.Is(locked, exit.ErrHomeInUse) {
			return false, nil
		}
		return false, locked
	}
	defer lock.Close()

	if err != nil { // there is no node.json
		return true, nil
	}

	return false, fmt.Errorf("process %d ended, but did not stop in order: it left its %s behind", pid,
		api.NodeFileName)
}
