// Package rig runs a node as a child process in a home of its own, keeps it under load, kills it
// and starts it again. From outside, it counts the acknowledged transactions that were lost or
// applied twice. Each transaction adds 1 to a counter of its own: if the counter is absent, the
// transaction was lost, and if it is 2, the transaction was applied twice. The package also has
// what other programs that test nodes need: clients, loads, kills and audits.
package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/load"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
)

// Config configures a rig.
type Config struct {
	Bin     string  // the coppice binary
	Profile string  // of the tree's limits
	Rate    float64 // of the load, in transactions per second, if the node keeps up
	Keep    bool    // keep the home when done

	Init []string // more flags of init, besides the address and the profile
}

// ReadyWithin is how long a node may take to be ready after its start, and to be whole again after
// a kill.
const ReadyWithin = 30 * time.Second

// Rig is a node under load.
type Rig struct {
	Home   string
	Client *client.Client

	conf   Config
	log    *os.File
	proc   *Process
	ledger *Ledger
	probes atomic.Uint64
	prefix string

	stop     chan struct{} // closed so that no new submission begins
	loads    chan error    // receives the error of each load when it has ended
	followed chan error    // receives the error of follow when it has ended
	loadsEnd context.CancelFunc
	unknown  atomic.Int64 // transactions without an answer when the load ended
}

// New makes a home, starts its node, waits until it is ready, and puts it under load. The caller
// must close the rig.
func New(ctx context.Context, c Config) (_ *Rig, err error) {
	r := &Rig{conf: c, ledger: NewLedger(), prefix: load.NewPrefix(), stop: make(chan struct{}),
		loads: make(chan error, 2), followed: make(chan error, 1)}
	dir, err := os.MkdirTemp("", "coppice-")
	if err != nil {
		return nil, err
	}

	r.Home = filepath.Join(dir, "home")
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()

	if r.log, err = os.Create(filepath.Join(dir, "node.log")); err != nil {
		return nil, err
	}

	if _, err := r.Command(ctx, append([]string{"init", "--listen", "127.0.0.1:0", "--profile", c.Profile},
		c.Init...)...); err != nil {
		return nil, err
	}

	if r.Client, err = Dial(r.Home, 2*time.Millisecond, 20*time.Millisecond); err != nil {
		return nil, err
	}
	if err := r.Start(ctx); err != nil {
		return nil, err
	}

	return r, r.load()
}

// load starts the two loads of Loads, and follows the node.
func (r *Rig) load() error {
	runs, err := Loads(load.Config{
		Client: r.Client, Clients: 4, Batch: 10, Rate: r.conf.Rate, Acked: r.ledger.Write, Stop: r.stop,
		Failed: func(_ load.Item, err error) bool {
			if errors.Is(err, client.ErrUnknown) {
				r.unknown.Add(1)
				return true
			}
			return false // no transaction of this load may fail, so the load ends
		},
	}, r.prefix)
	if err != nil {
		return err
	}

	var ctx context.Context
	ctx, r.loadsEnd = context.WithCancel(context.Background()) // the load goes on until Drain or Close

	for _, run := range runs {
		go func() {
			_, err := run.Run(ctx)
			r.loads <- err
		}()
	}

	go func() { r.followed <- r.follow(ctx) }()

	return nil
}

// Start runs the node's process and waits until it is ready.
func (r *Rig) Start(ctx context.Context) error {
	p, err := StartProcess(r.conf.Bin, r.log, "start", "--home", r.Home, "--log-level", "warn")
	if err != nil {
		return err
	}
	r.proc = p
	return r.Ready(ctx)
}

// Ready waits until the node is ready. It returns an error if the process ends meanwhile.
func (r *Rig) Ready(ctx context.Context) error {
	waiting, cancel := context.WithTimeoutCause(ctx, ReadyWithin, fmt.Errorf("not ready within %v", ReadyWithin))
	defer cancel()

	waiting, ended := context.WithCancelCause(waiting)
	defer ended(nil)

	p := r.proc
	go func() {
		select {
		case <-p.Done():
			ended(fmt.Errorf("the node's process ended: %s: %s", p.Exit(), r.lastWords()))
		case <-waiting.Done():
		}
	}()

	_, err := r.Client.WaitReady(waiting)
	if cause := context.Cause(waiting); err != nil && cause != nil {
		return fmt.Errorf("%w (%w)", cause, err)
	}

	return err
}

// Process returns the node's process, which may have ended.
func (r *Rig) Process() *Process { return r.proc }

// lastWords returns the last line of the node's output.
func (r *Rig) lastWords() string {
	b, err := os.ReadFile(r.log.Name())
	if err != nil {
		return ""
	}
	b = bytes.TrimSpace(b[max(0, len(b)-4096):])
	return string(b[bytes.LastIndexByte(b, '\n')+1:])
}

// Command runs another command of the binary on the home and returns its output.
func (r *Rig) Command(ctx context.Context, args ...string) (string, error) {
	return Command(ctx, r.conf.Bin, r.Home, args...)
}

// Command runs a command of the coppice binary bin on a home and returns its output.
func Command(ctx context.Context, bin, home string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, bin, append(args, "--home", home)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs

	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("coppice %s: %w: %s", args[0], err, strings.TrimSpace(errs.String()))
	}

	return out.String(), nil
}

// Probe submits a transaction of its own and waits for its result. It returns the height of the
// commit, which began after the call.
func (r *Rig) Probe(ctx context.Context) (height uint64, err error) {
	item, err := load.Counters(r.prefix + "probe/")(r.probes.Add(1))
	if err != nil {
		return 0, err
	}
	res, err := r.Client.SubmitWait(ctx, chain.NewTx(kv.Name, item.Body, 9*time.Minute))
	if err != nil {
		return 0, err
	}
	if res.Code != 0 {
		return 0, fmt.Errorf("the probe failed: %v: %s", res.Code, res.Log)
	}

	return res.GetVersion().GetHeight(), r.ledger.Write([]load.Item{item})
}

// Grow waits until n more transactions are acknowledged, for at most ReadyWithin.
func (r *Rig) Grow(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, ReadyWithin, fmt.Errorf("none within %v", ReadyWithin))
	defer cancel()
	return r.ledger.Grow(ctx, n)
}

// Audit checks the transactions that were acknowledged since the last Audit, and counts those that
// were lost or applied twice.
func (r *Rig) Audit(ctx context.Context) (Count, error) { return r.audit(ctx, r.ledger.Take()) }

// AuditAll is Audit for every transaction that was acknowledged since the rig started.
func (r *Rig) AuditAll(ctx context.Context) (Count, error) { return r.audit(ctx, r.ledger.All()) }

func (r *Rig) audit(ctx context.Context, items []load.Item) (Count, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*ReadyWithin,
		fmt.Errorf("reading back took more than %v", 2*ReadyWithin))
	defer cancel()
	return Audit(ctx, r.Client, items)
}

// Drain ends the load in order, so that every submission under way gets its answer. It returns how
// many transactions got none.
func (r *Rig) Drain(ctx context.Context) (unknown int, err error) {
	close(r.stop)
	late := time.AfterFunc(2*ReadyWithin, r.loadsEnd)
	defer late.Stop()
	defer context.AfterFunc(ctx, r.loadsEnd)()

	err = errors.Join(<-r.loads, <-r.loads)
	r.loadsEnd()
	r.loadsEnd = nil
	err = errors.Join(err, <-r.followed)
	return int(r.unknown.Load()), err
}

// Close ends the load and the process, and removes the home unless it is to be kept.
func (r *Rig) Close() error {
	if r.loadsEnd != nil {
		r.loadsEnd()
		// The loads and follow end with errors, because Close has cut them off.
		<-r.loads
		<-r.loads
		<-r.followed
	}

	if r.proc != nil {
		r.proc.Crash()
	}
	if r.Client != nil {
		r.Client.CloseIdle()
	}

	var errs []error
	if r.log != nil {
		errs = append(errs, r.log.Close())
	}
	if !r.conf.Keep {
		errs = append(errs, os.RemoveAll(filepath.Dir(r.Home)))
	}

	return errors.Join(errs...)
}

// Dir returns the directory of the home and the node's output.
func (r *Rig) Dir() string { return filepath.Dir(r.Home) }
