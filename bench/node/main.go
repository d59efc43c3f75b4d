// Command node compares a node with etcd. Both run as one process on this machine, with a client in
// a process of its own, and keep a key-value store durable: an answer comes after a sync of the
// disk. Each client writes one value, waits for the result, and writes the next.
//
//	coppice   bin/coppice, under "coppice load"
//	base      an older coppice, if COPPICE_BASE names its binary, under its own "coppice load"
//	etcd      etcd-server of the system, under etcd's Go client
//
// The programs take turns within each round, so that a change of the machine's speed meets all of
// them. A figure is the median of the rounds; a ratio is the median of the ratios within a round.
// Rows of several transactions a call have no etcd: it has no call that is like them.
//
// With -recover, it measures instead how long a node is away that was killed (SIGKILL): from the
// start of the new process to the first commit. "make bench-node" builds and runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"time"
)

// options holds the flags.
type options struct {
	bin, base, etcd string // programs; an empty one is not measured
	dir             string
	rounds          int
	rows            *regexp.Regexp
	warm, length    time.Duration
	size            int
	conns           int
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == etcdLoadCommand {
		exit(etcdLoad(os.Args[2:]))
	}

	var o options
	var rows string
	var recovered, killed int
	flag.StringVar(&o.bin, "bin", "bin/coppice", "the program coppice")
	flag.StringVar(&o.base, "base", os.Getenv("COPPICE_BASE"), "an older coppice to compare with")
	flag.StringVar(&o.etcd, "etcd", "", "the program etcd; by default the one of PATH")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "where the homes are made, on the disk to measure")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds; every program of a row runs once in each")
	flag.StringVar(&rows, "rows", ".", "regular expression that selects rows by their name")
	flag.DurationVar(&o.warm, "warm", time.Second, "load before each measurement")
	flag.DurationVar(&o.length, "length", 4*time.Second, "length of each measurement")
	flag.IntVar(&o.size, "size", 64, "bytes of a value")
	flag.IntVar(&o.conns, "etcd-conns", 1, "connections of etcd's clients, which they share")
	flag.IntVar(&recovered, "recover", 0, "measure the recovery of a log of this many transactions")
	flag.IntVar(&killed, "kills", 5, "SIGKILLs that -recover measures")
	flag.Parse()

	runtime.LockOSThread() // the kernel kills a program when the thread that started it ends
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	var err error
	if o.rows, err = regexp.Compile(rows); err != nil {
		exit(fmt.Errorf("-rows: %w", err))
	}
	if o.dir, err = os.MkdirTemp(o.dir, "bench-node-"); err != nil {
		exit(err)
	}

	if recovered > 0 {
		err = o.recovery(ctx, recovered, killed)
	} else {
		err = o.compare(ctx)
	}
	exit(err, os.RemoveAll(o.dir))
}

func exit(errs ...error) {
	code := 0
	for _, err := range errs {
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// row is a row of the table.
type row struct {
	name           string
	clients, batch int
}

var rows = []row{
	{"1 client", 1, 1},
	{"64 clients", 64, 1},
	{"256 clients", 256, 1},
	{"8 clients × 100", 8, 100},
	{"16 clients × 500", 16, 500},
}

// program is one column of the table.
type program struct {
	name   string
	path   string
	target func(path, dir string) target
}

// target is a server that was started for one measurement.
type target interface {
	start(ctx context.Context) error
	load(ctx context.Context, r row, o options, length time.Duration) (measured, error)
	counted() (counts, error)
	stop() error
}

// measured is what the load of one measurement says.
type measured struct {
	PerSecond float64 `json:"tx_per_second"`
	P50       float64 `json:"p50_ms"`
	Failed    int64   `json:"failed"`
	Unknown   int64   `json:"unknown"`
}

// counts are figures of a server since its start.
type counts struct{ syncs, blocks float64 }

func (o options) programs() (list []program, note string) {
	list = append(list, program{"coppice", o.bin, newCoppice})

	if o.base != "" {
		list = append(list, program{"base", o.base, newCoppice})
	}

	path := o.etcd
	if path == "" {
		var err error
		if path, err = exec.LookPath("etcd"); err != nil {
			return list, "There is no etcd on this machine (Debian: etcd-server), so its column is empty."
		}
	}

	return append(list, program{"etcd", path, newEtcd}), ""
}

// compare measures all rows and prints the table.
func (o options) compare(ctx context.Context) error {
	programs, note := o.programs()
	t := newTable(note)

	for _, r := range rows {
		if !o.rows.MatchString(r.name) {
			continue
		}

		for round := range o.rounds {
			for i := range programs {
				p := programs[(i+round)%len(programs)] // none is always the first
				if p.name == "etcd" && r.batch > 1 {
					continue
				}
				f, err := o.measure(ctx, p, r)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", r.name, p.name, err)
				}
				fmt.Fprintf(os.Stderr, "%-16s round %d  %-8s %7.0f/s  p50 %6.2f ms  %.2f syncs a block\n", r.name,
					round+1, p.name, f.rate, f.p50, f.syncs)
				t.add(r, p.name, f)
			}
		}
	}

	return t.print(os.Stdout)
}

// figure is the result of one measurement.
type figure struct {
	rate, p50 float64
	syncs     float64 // for each block; 0: not known
}

// measure starts a program from nothing, measures it and stops it.
func (o options) measure(ctx context.Context, p program, r row) (f figure, err error) {
	dir := filepath.Join(o.dir, p.name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return f, err
	}
	defer func() {
		if gone := os.RemoveAll(dir); err == nil {
			err = gone
		}
	}()

	t := p.target(p.path, dir)
	defer func() {
		if stopped := t.stop(); err == nil {
			err = stopped
		}
	}()

	if err := t.start(ctx); err != nil {
		return f, err
	}
	if _, err := t.load(ctx, r, o, o.warm); err != nil {
		return f, err
	}

	before, err := t.counted()
	if err != nil {
		return f, err
	}
	m, err := t.load(ctx, r, o, o.length)
	if err != nil {
		return f, err
	}
	after, err := t.counted()
	if err != nil {
		return f, err
	}
	if m.Failed+m.Unknown > 0 {
		return f, fmt.Errorf("%d writes failed, %d are unknown", m.Failed, m.Unknown)
	}

	f = figure{rate: m.PerSecond, p50: m.P50}
	if blocks := after.blocks - before.blocks; blocks > 0 {
		f.syncs = (after.syncs - before.syncs) / blocks
	}

	return f, nil
}
