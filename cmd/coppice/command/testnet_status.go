package command

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
)

// testnetJSON is what "testnet status --json" prints.
type testnetJSON struct {
	ChainID string            `json:"chain_id"`
	Nodes   []testnetNodeJSON `json:"nodes"`
}

type testnetNodeJSON struct {
	Index   int    `json:"index"`
	Home    string `json:"home"`
	Ready   bool   `json:"ready"`
	Height  uint64 `json:"height"`
	AppHash string `json:"app_hash"`
	Pool    uint64 `json:"pool_size"`
	Error   string `json:"error,omitempty"`
}

// statusTime bounds how long status waits for the nodes.
const statusTime = 2 * time.Second

func (a *app) testnetStatus(open func() (*testnet.Net, error)) *cobra.Command {
	var asJSON bool
	var height uint64
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print where each node of a testnet stands",
		Long: `Status asks each node where it stands. With --height it fails unless all nodes have reached that
height. With --wait it waits until the testnet is there and all nodes are ready and at that height,
and fails if they are not in that time.`,
		Example: `  coppice testnet status
  coppice testnet start -n 4 & coppice testnet status --wait 60s
  coppice testnet status --height 10 --wait 30s --json`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wait < 0 {
				return usageError(cmd, "--wait is %v, want 0 or more", wait)
			}

			out, err := a.awaitTestnet(cmd.Context(), open, height, wait)
			if err != nil {
				return err
			}

			if asJSON {
				err = printJSON(cmd.OutOrStdout(), out)
			} else {
				err = out.print(cmd)
			}

			switch {
			case err != nil:
			case height > 0 && out.behind(height):
				err = fmt.Errorf("not all nodes are at height %d", height)
			case wait > 0 && out.behind(0):
				err = fmt.Errorf("not all nodes are ready after %v (--wait)", wait)
			}

			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.Uint64Var(&height, "height", 0, "height that all nodes must have reached")
	f.DurationVar(&wait, "wait", 0, "how long to wait until all nodes are ready, and at --height")

	return cmd
}

// lookAtTestnet is how often awaitTestnet asks the nodes.
const lookAtTestnet = 100 * time.Millisecond

// awaitTestnet asks all nodes until they are ready and at the height, for at most wait. It waits
// for a testnet that is only being made, too.
func (a *app) awaitTestnet(ctx context.Context, open func() (*testnet.Net, error), height uint64,
	wait time.Duration) (testnetJSON, error) {
	late := time.After(wait)
	again := time.NewTicker(lookAtTestnet)
	defer again.Stop()

	for {
		var out testnetJSON
		n, err := open()
		if err == nil {
			out = a.askTestnet(ctx, n)
		}

		if wait == 0 || err == nil && !out.behind(height) || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return out, err
		}

		select {
		case <-again.C:
		case <-late:
			return out, err
		case <-ctx.Done():
			return out, context.Cause(ctx)
		}
	}
}

// askTestnet asks all nodes at the same time.
func (a *app) askTestnet(ctx context.Context, n *testnet.Net) testnetJSON {
	out := testnetJSON{ChainID: n.ChainID, Nodes: make([]testnetNodeJSON, n.Nodes)}
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()

	var all sync.WaitGroup

	for i := range n.Nodes {
		all.Go(func() {
			at := a.at(n.Home(i))
			s := &out.Nodes[i]
			s.Index, s.Home = i, at.home
			c := at.client()
			defer c.CloseIdle()

			r, err := c.Status(ctx)
			if err != nil {
				s.Error = at.nodeError(ctx, err).Error()
				return
			}

			s.Ready, s.Height, s.AppHash, s.Pool = r.Ready, r.Height, hex.EncodeToString(r.AppHash), r.PoolSize
		})
	}

	all.Wait()

	return out
}

// behind reports whether a node is not ready, or below the height.
func (t testnetJSON) behind(height uint64) bool {
	for _, n := range t.Nodes {
		if !n.Ready || n.Height < height {
			return true
		}
	}
	return false
}

func (t testnetJSON) print(cmd *cobra.Command) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tHEIGHT\tAPP HASH\tPOOL\tHOME")

	for _, n := range t.Nodes {
		if n.Error != "" {
			fmt.Fprintf(w, "%d\t-\t%s\t-\t%s\n", n.Index, n.Error, n.Home)
			continue
		}
		fmt.Fprintf(w, "%d\t%d\t%s\t%d\t%s\n", n.Index, n.Height, n.AppHash, n.Pool, n.Home)
	}

	return w.Flush()
}
