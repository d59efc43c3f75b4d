// Command cometbft compares a node whose consensus is CometBFT with CometBFT's own example
// application. Both run as processes on one machine, in turn, with the same configuration and load:
//
//	coppice       our node; transactions come in by its API, which acknowledges durable ones
//	coppice-rpc   our node; transactions come in by CometBFT's RPC
//	synced        the persistent kvstore over a unix socket, with an fdatasync for each Commit
//	plain         the same without it
//	inprocess     the persistent kvstore in CometBFT's process
//
// Ratios are taken round by round, coppice over the other, so that they hold if the machine's speed
// drifts. Build the programs with "make bench-cometbft", which also runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/solo"
)

// options holds the flags of the command line.
type options struct {
	bin      string // directory of the programs
	targets  []string
	rounds   int
	inFlight int
	warm     time.Duration
	closed   time.Duration
	rate     float64
	open     time.Duration
	idle     time.Duration
	empty    time.Duration
	size     int
	profile  string
}

func main() {
	consensus.Register(solo.Kind{}, comet.Kind{})
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case appCommand:
			exit(serveApp(os.Args[2:]))
		case nodeCommand:
			exit(runNode(os.Args[2:]))
		case child.Command:
			exit(runChild(os.Args[2:]))
		}
	}

	runtime.LockOSThread() // the kernel kills a program when the thread that started it ends
	var o options
	var targets string
	flag.StringVar(&o.bin, "bin", "bin", "directory with the programs coppice and cometbft")
	flag.StringVar(&targets, "targets", "coppice,synced,coppice-rpc,plain,inprocess",
		"what to measure, in this order in each round")
	flag.IntVar(&o.rounds, "rounds", 5, "number of times that each target is started and measured")
	flag.IntVar(&o.inFlight, "in-flight", 2000, "transactions of the closed loop that are in flight at once")
	flag.DurationVar(&o.warm, "warm", 2*time.Second, "warm-up of the closed loop")
	flag.DurationVar(&o.closed, "closed", 8*time.Second, "length of the closed loop")
	flag.Float64Var(&o.rate, "rate", 2000, "transactions per second of the open loop")
	flag.DurationVar(&o.open, "open", 6*time.Second, "length of the open loop; 0 means none")
	flag.DurationVar(&o.idle, "idle", 0, "measure idle nodes for this time, instead of nodes under load")
	flag.DurationVar(&o.empty, "empty-every", 0, "make an empty block after this time without one; 0 means never")
	flag.IntVar(&o.size, "size", 64, "bytes of a value")
	flag.StringVar(&o.profile, "profile", "", "directory for CPU profiles of coppice and its CometBFT")
	flag.Parse()
	o.targets = strings.Split(targets, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	exit(run(ctx, o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, o options) error {
	for _, name := range o.targets {
		if _, err := o.target(name, ""); err != nil {
			return err
		}
	}

	fmt.Printf("in flight %d, open loop %.0f tx/s, values of %d bytes, CometBFT profile %s, empty blocks %v\n",
		o.inFlight, o.rate, o.size, comethome.Tuned, o.empty)
	all := newResults(o.targets)

	for round := range o.rounds {
		for _, name := range o.targets {
			r, err := o.measure(ctx, name)
			if err != nil {
				return fmt.Errorf("round %d, %s: %w", round+1, name, err)
			}
			all.add(name, r)
			fmt.Printf("round %d  %-12s %s\n", round+1, name, r)
		}
	}

	all.print(os.Stdout)

	return nil
}

// measure starts one target from nothing, measures it, and stops it.
func (o options) measure(ctx context.Context, name string) (r result, err error) {
	dir, err := os.MkdirTemp("", "bench-cometbft-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	t, err := o.target(name, dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	if err := t.start(ctx); err != nil {
		return r, err
	}
	l, err := newLoad(ctx, t, o.size)
	if err != nil {
		return r, err
	}
	defer l.close()

	if o.idle > 0 {
		return o.rest(ctx, t, l)
	}
	if _, err := l.closedLoop(ctx, o.inFlight, o.warm); err != nil {
		return r, err
	}

	before := t.usage()
	if r.closed, err = l.closedLoop(ctx, o.inFlight, o.closed); err != nil {
		return r, err
	}

	r.cpu = t.usage().since(before)

	if o.open > 0 {
		if r.open, err = l.openLoop(ctx, o.rate, o.open); err != nil {
			return r, err
		}
	}

	return r, nil
}

// rest measures a node that has committed blocks and has nothing to do.
func (o options) rest(ctx context.Context, t *target, l *load) (r result, err error) {
	if _, err := l.closedLoop(ctx, 1, o.warm); err != nil {
		return r, err
	}

	before := t.usage()

	select {
	case <-ctx.Done():
		return r, context.Cause(ctx)
	case <-time.After(o.idle):
	}

	r.cpu, r.idle = t.usage().since(before), o.idle

	return r, nil
}
