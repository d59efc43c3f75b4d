package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// recovery measures how long a node is away, with a log of n transactions and a snapshot: killed
// while it rests, killed under load, and with a child of transactions killed under load. Programs
// take turns on copies of one home.
func (o options) recovery(ctx context.Context, n, kills int) error {
	programs, _ := o.programs()
	programs = slices.DeleteFunc(programs, func(p program) bool { return p.name == "etcd" })
	maker := programs[len(programs)-1] // the oldest: a newer program reads what it writes

	seed := newCoppice(maker.path, o.dir).(*coppice)
	if err := seed.start(ctx); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"load", "--clients", "16", "--batch", "500", "--size", strconv.Itoa(o.size), "--count", strconv.Itoa(n)},
		{"snapshot", "create"},
	} {
		if out, err := exec.CommandContext(ctx, maker.path, append(args, "--home", seed.home)...).
			CombinedOutput(); err != nil {
			return errors.Join(fmt.Errorf("coppice %s: %w: %s", args[0], err, out), seed.stop())
		}
	}
	if err := seed.process.end(syscall.SIGKILL); err != nil {
		return err
	}

	var found []*away

	for _, p := range programs {
		a := &away{o: o, name: p.name, coppice: coppice{path: p.path, home: filepath.Join(o.dir, p.name, "home")}}
		if err := os.MkdirAll(filepath.Dir(a.home), 0o700); err != nil {
			return err
		}
		if out, err := exec.CommandContext(ctx, "cp", "-a", seed.home, a.home).CombinedOutput(); err != nil {
			return fmt.Errorf("copying the home: %w: %s", err, out)
		}
		found = append(found, a)
	}

	for _, a := range found {
		if err := errors.Join(a.run(ctx), a.stop()); err != nil { // for the page cache
			return err
		}
		if err := a.run(ctx); err != nil {
			return err
		}
	}

	for range kills {
		for _, a := range found {
			if err := a.measure(ctx); err != nil {
				return errors.Join(fmt.Errorf("%s: %w", a.name, err), a.stop())
			}
		}
	}

	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Printf("%d transactions in the log, load %s\n", n, strings.TrimSpace(string(load)))

	for _, a := range found {
		fmt.Printf("%-8s SIGKILL at rest: %s; under load: %s; a child of transactions under load: %s\n", a.name,
			spread(a.rest), spread(a.busy), spread(a.child))
	}

	var errs []error
	for _, a := range found {
		errs = append(errs, a.stop())
	}
	return errors.Join(errs...)
}

// away measures one program.
type away struct {
	coppice
	o    options
	name string

	rest, busy, child []time.Duration
}

// measure makes each kind of kill once.
func (a *away) measure(ctx context.Context) error {
	took, err := a.sigkill(ctx)
	if err != nil {
		return err
	}
	a.rest = append(a.rest, took)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	load := exec.CommandContext(ctx, a.path, "load", "--home", a.home, "--clients", "20", "--batch", "500",
		"--duration", "1h")
	if err := load.Start(); err != nil {
		return err
	}
	defer load.Wait() // it is ended by SIGKILL
	defer cancel()

	time.Sleep(2 * time.Second)

	took, err = a.killChild(ctx)
	if err != nil {
		return err
	}
	a.child = append(a.child, took)

	time.Sleep(2 * time.Second)

	if took, err = a.sigkill(ctx); err != nil {
		return err
	}
	a.busy = append(a.busy, took)

	return nil
}

// sigkill kills the process, starts it again at once, and returns the time from the kill to the
// first commit: of the block that this client's transaction is in, or of an earlier one.
func (a *away) sigkill(ctx context.Context) (time.Duration, error) {
	begun := time.Now()
	if err := a.process.end(syscall.SIGKILL); err != nil {
		return 0, err
	}
	var err error
	if a.process, err = begin(filepath.Dir(a.home), a.path, "start", "--home", a.home); err != nil {
		return 0, err
	}

	c := a.client()
	defer c.CloseIdle()

	body, err := kv.Encode(kv.Put([]byte("first"), []byte(begun.String())))
	if err != nil {
		return 0, err
	}
	if _, err = c.SubmitWait(ctx, c.NewTx(kv.Name, body, time.Minute)); err != nil {
		return 0, err
	}

	return time.Since(begun), nil
}

// killChild ends the engine ordering, and returns the time until the next commit.
func (a *away) killChild(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()

	c := a.client()
	defer c.CloseIdle()

	commits := make(chan time.Time, 1024)
	done := make(chan error, 1)

	go func() {
		done <- c.Follow(ctx, client.FromNow, []string{"BlockCommitted"}, func(client.Record) error {
			select {
			case commits <- time.Now():
			default:
			}
			return nil
		})
	}()

	<-commits // the load is on its way

	if _, err := c.Kill(ctx, "coppice/node/transactions/ordering", apiv1.How_HOW_ERROR, 0); err != nil {
		return 0, err
	}
	at := time.Now()

	for {
		select {
		case t := <-commits:
			if t.After(at) {
				return t.Sub(at), nil
			}
		case err := <-done:
			return 0, err
		}
	}
}

// client returns a client of the node, wherever it listens. It asks again soon.
func (a *away) client() *client.Client {
	token, _ := os.ReadFile(filepath.Join(a.home, "admin.token"))
	return client.New("", client.WithToken(strings.TrimSpace(string(token))), client.WithResolver(a.address),
		client.WithBackoff(time.Millisecond, 4*time.Millisecond))
}

func spread(d []time.Duration) string {
	d = slices.Sorted(slices.Values(d))
	if len(d) == 0 {
		return "-"
	}
	round := func(i int) string { return d[i].Round(100 * time.Microsecond).String() }
	return fmt.Sprintf("p50 %s (%s to %s)", round(len(d)/2), round(0), round(len(d)-1))
}
