package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
)

// runOptions are the flags of "oracle run".
type runOptions struct {
	dir     string // of the testnet; empty: a temporary one
	nodes   int
	reports uint64 // after how many to stop; 0: at Ctrl-C
}

// runUntilSignal runs the command "oracle run", which is the default: a testnet of this program,
// whose reports it prints to out.
func runUntilSignal(args []string, out io.Writer) error {
	var o runOptions
	f := flag.NewFlagSet("oracle run", flag.ExitOnError)
	f.StringVar(&o.dir, "dir", "", "directory of the testnet (default: a temporary one)")
	f.IntVar(&o.nodes, "nodes", 4, "how many nodes a new testnet gets")
	f.Uint64Var(&o.reports, "reports", 0, "stop after this many reports (default: at Ctrl-C)")
	_ = f.Parse(args) // it exits if they are wrong
	if f.NArg() > 0 {
		fmt.Fprintf(f.Output(), "oracle run: unexpected argument %q\n", f.Arg(0))
		f.Usage()
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	if o.dir == "" {
		dir, err := os.MkdirTemp("", "oracle")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.dir = dir
	}

	return o.run(ctx, out)
}

// stopTime is how long the testnet may take to stop in order.
const stopTime = 40 * time.Second

// run runs a tree of two children, "oracle testnet start" as a process and the service that prints
// the reports, until ctx ends, or one of them does: all reports were made, or the testnet was
// stopped. What the nodes log goes to nodes.log in the testnet's directory.
func (o runOptions) run(ctx context.Context, out io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}

	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(o.dir, "nodes.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()

	env := os.Environ()
	if os.Getenv(sinkVar) == "" {
		env = append(env, sinkVar+"="+filepath.Join(o.dir, "reports"))
	}
	testnet := process.Child(process.Spec{
		Name: "testnet", Path: self,
		Args: []string{"testnet", "start", "--dir", o.dir, "--nodes", strconv.Itoa(o.nodes)},
		Env:  env, Stdout: lines(out), Stderr: lines(log), NullStdin: true,
		Grace: stopTime, Kill: process.KillMixed,
	})
	testnet.Restart, testnet.Significant = supervisor.Temporary, true

	tree, err := supervisor.New(supervisor.Spec{
		Name: "oracle", AutoShutdown: supervisor.AnySignificant,
		Build: supervisor.Children(testnet, supervisor.Child{
			ID: "reports", Restart: supervisor.Temporary, Significant: true,
			Start: func(context.Context) (supervisor.Service, error) {
				return supervisor.ServiceFunc(func(ctx context.Context) error { return o.show(ctx, out) }), nil
			},
		}),
	})
	if err != nil {
		return err
	}

	err = tree.Serve(ctx)
	var ended *supervisor.AutoShutdownError
	if errors.As(err, &ended) {
		return ended.Exit.Err // nil if the child has done its work
	}
	if ctx.Err() != nil {
		return nil // stopped in order
	}

	return err
}

// lines returns a function that writes lines to out.
func lines(out io.Writer) func([]byte) {
	return func(line []byte) { fmt.Fprintf(out, "%s\n", line) }
}

// show prints the reports that node 0 knows, as its blocks bring them, until ctx ends or there are
// enough.
func (o runOptions) show(ctx context.Context, out io.Writer) error {
	home := filepath.Join(o.dir, "node0")
	c := client.New("", client.WithResolver(func() (string, error) {
		n, err := api.ReadNodeFile(home)
		return n.Address, err
	}))
	defer c.CloseIdle()

	var last, shown uint64
	enough := errors.New("all reports are made")

	err := c.Follow(ctx, client.FromNow, []string{"BlockCommitted"}, func(client.Record) error {
		st, err := stateOf(ctx, c)
		if err != nil || st.App.Last.Number == last {
			return err
		}

		last = st.App.Last.Number
		shown++
		if _, err := fmt.Fprintln(out, st.App.Last); err != nil {
			return err
		}
		if shown == o.reports {
			return enough
		}

		return nil
	})
	if errors.Is(err, enough) {
		return nil
	}

	return err
}

// stateOf reads the state of the service at the newest block.
func stateOf(ctx context.Context, c *client.Client) (st rounds.State[Oracle], err error) {
	status, err := c.Status(ctx)
	if err != nil || status.Height == 0 {
		return st, err
	}

	st, _, err = replicated.Read[Oracle](func(key []byte) ([]byte, bool, error) {
		return c.GetAt(ctx, key, status.Height)
	})
	return st, err
}

// String returns the report as people read it.
func (r Report) String() string {
	var prices []string
	for _, a := range slices.Sorted(maps.Keys(r.Prices)) {
		prices = append(prices, fmt.Sprintf("%s %s", a, amount(r.Prices[a])))
	}
	return fmt.Sprintf("report %d: %s, the median of %s", r.Number, amount(r.Cents), strings.Join(prices, ", "))
}

func amount(cents int64) string { return fmt.Sprintf("%.2f", float64(cents)/100) }
