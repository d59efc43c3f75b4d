package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/load"
	"github.com/coppice-go/coppice/engines/backend/kv"
)

// loadJSON is what "load --json" prints.
type loadJSON struct {
	Submitted   uint64  `json:"submitted"`
	Acked       uint64  `json:"acked"`
	Committed   uint64  `json:"committed"`
	Failed      uint64  `json:"failed"`
	Unknown     uint64  `json:"unknown"`
	Seconds     float64 `json:"seconds"`
	TxPerSecond float64 `json:"tx_per_second"`
	P50         float64 `json:"p50_ms"`
	P99         float64 `json:"p99_ms"`
	Max         float64 `json:"max_ms"`
}

// checkJSON is what "load --check --json" prints.
type checkJSON struct {
	Lines   uint64   `json:"lines"`
	Missing uint64   `json:"missing"`
	First   []string `json:"first,omitempty"`
}

func (a *app) loadCommand() *cobra.Command {
	l := &loadFlags{app: a}
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Put a node under load, and check that nothing acknowledged is lost",
		Long: `Load submits transactions from many clients. Each transaction has a key of its own that no other run
uses. While the node is down, load submits the same transactions again, so it goes on through kills
and restarts. Ctrl-C ends it in order: it waits up to --grace for what is under way. A second Ctrl-C
ends it at once, and it prints what it knows.

With --acked, it writes a line "key value" for each transaction after its acknowledgment, to a file
that is new or empty. With --check, it reads such a file and exits 0 only if the node has each of
them.`,
		Example: `  coppice load --duration 10s
  coppice load --count 100000 --clients 16 --batch 100 --json
  coppice load --duration 1m --acked acked.txt; coppice load --check acked.txt`,
		Args: words(),
		RunE: l.run,
	}
	f := cmd.Flags()
	f.IntVar(&l.clients, "clients", 8, "clients that submit at the same time")
	f.IntVar(&l.batch, "batch", 100, "transactions per submission")
	f.IntVar(&l.size, "size", 64, "bytes of a value")
	f.StringVar(&l.workload, "workload", "put", "put: write a random value; add: read a counter and add 1 to it")
	offer(cmd, "workload", "put\twrite a random value", "add\tread a counter and add 1 to it")
	f.DurationVar(&l.duration, "duration", 10*time.Second, "how long to submit")
	f.Uint64Var(&l.count, "count", 0, "how many transactions to submit, instead of --duration")
	f.Float64Var(&l.rate, "rate", 0, "limit of transactions per second, all clients together; 0 is no limit")
	f.BoolVar(&l.noWait, "no-wait", false,
		"submit the next batch when one is acknowledged, before it has results")
	f.DurationVar(&l.grace, "grace", 30*time.Second, "how long to wait for answers after the last submission")
	f.StringVar(&l.acked, "acked", "", "write acknowledged keys and values to this file, which is new or empty")
	f.StringVar(&l.check, "check", "", "check this file of --acked, and submit nothing")
	f.BoolVar(&l.asJSON, "json", false, "print JSON")

	return cmd
}

// loadFlags are the flags of load.
type loadFlags struct {
	app                  *app
	clients, batch, size int
	duration, grace      time.Duration
	count                uint64
	rate                 float64
	noWait, asJSON       bool
	acked, check         string
	workload             string
}

func (l *loadFlags) run(cmd *cobra.Command, _ []string) (err error) {
	pairs := [][2]string{{"duration", "count"}}
	for _, submits := range []string{"acked", "count", "duration", "clients", "batch", "size", "workload", "rate",
		"no-wait"} {
		pairs = append(pairs, [2]string{submits, "check"}) // --check would ignore these flags
	}

	for _, pair := range pairs {
		if f := cmd.Flags(); f.Changed(pair[0]) && f.Changed(pair[1]) {
			return usageError(cmd, "--%s and --%s do not go together", pair[0], pair[1])
		}
	}

	if l.size < 1 || l.size > 1<<20 {
		return usageError(cmd, "--size is %d, want 1 to %d", l.size, 1<<20)
	}
	if l.duration <= 0 {
		return usageError(cmd, "--duration is %v, want more than 0", l.duration)
	}
	if l.check != "" {
		return l.checkFile(cmd)
	}

	conf := load.Config{
		Client: l.app.client(), Backend: kv.Name, ValidFor: 5 * time.Minute,
		Clients: l.clients, Batch: l.batch, Count: l.count, Rate: l.rate, NoWait: l.noWait,
	}

	switch l.workload {
	case "put":
		conf.Next = load.Puts(load.NewPrefix(), l.size)
	case "add":
		conf.Next = load.Counters(load.NewPrefix())
	default:
		return usageError(cmd, "--workload is %q, want put or add", l.workload)
	}

	if err := conf.Validate(); err != nil {
		return usageError(cmd, "%w", err)
	}
	if err := l.newAcked(cmd); err != nil {
		return err
	}
	if _, err := l.app.resolve(); err != nil {
		return l.app.nodeError(cmd.Context(), err)
	}

	if l.acked != "" {
		f, err := os.OpenFile(l.acked, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		conf.Acked = load.WriteAcked(f)
	}

	var firstFailure error
	conf.Failed = func(_ load.Item, err error) bool {
		if firstFailure == nil {
			firstFailure = err
		}
		return true
	}
	stop := make(chan struct{})
	conf.Stop = stop
	run, err := load.New(conf)
	if err != nil {
		return err
	}

	undo := atForcedEnd(cmd.Context(), func() { _ = l.print(cmd.OutOrStdout(), run.Report()) })
	rep, err := l.drive(cmd, run, stop)
	undo()
	if err := errors.Join(err, l.print(cmd.OutOrStdout(), rep)); err != nil {
		return err
	}

	if bad := rep.Failed + rep.Unknown; bad > 0 && firstFailure == nil { // accepted, without a result
		return fmt.Errorf("%d of %d transactions failed and %d are unknown: the run ended before their results came",
			rep.Failed, rep.Submitted, rep.Unknown)
	} else if bad > 0 {
		return fmt.Errorf("%d of %d transactions failed and %d are unknown; the first: %w", rep.Failed, rep.Submitted,
			rep.Unknown, firstFailure)
	}

	return nil
}

// newAcked returns an error if the --acked file exists and is not empty. That file is the only
// record of the transactions that an earlier run was told are durable.
func (l *loadFlags) newAcked(cmd *cobra.Command) error {
	if l.acked == "" {
		return nil
	}

	info, err := os.Stat(l.acked)
	switch {
	case err == nil && info.Mode().IsRegular() && info.Size() > 0:
		return usageError(cmd, "--acked %s: it has %d bytes of an earlier run, for --check; name another file, or "+
			"remove this one", l.acked, info.Size())
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}

	return nil
}

// drive runs the load until its duration is over or a signal comes. It then waits for the answers
// to the submissions under way, for at most the grace period. It shows the progress meanwhile.
func (l *loadFlags) drive(cmd *cobra.Command, run *load.Run, stop chan struct{}) (rep load.Report, err error) {
	interrupted := cmd.Context()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(interrupted))
	defer cancel(nil)

	done := make(chan struct{})
	go func() {
		defer close(done)
		rep, err = run.Run(ctx)
	}()

	var over <-chan time.Time // the end of the duration, and then of the grace

	if l.count == 0 {
		t := time.NewTimer(l.duration)
		defer t.Stop()
		over = t.C
	}

	show := newProgress()
	defer show.end()

	stopping := false

	for {
		select {
		case <-done:
			return rep, err
		case <-show.tick:
			show.line(l.progress(run.Report()))
			continue
		case <-interrupted.Done():
			interrupted = context.WithoutCancel(interrupted)
		case <-over:
		}

		if stopping {
			cancel(fmt.Errorf("no answer within %v", l.grace))
			over = nil
			continue
		}

		stopping = true
		close(stop)
		over = time.After(l.grace)
	}
}

func (l *loadFlags) progress(r load.Report) string {
	return fmt.Sprintf("%6.1fs  %d acknowledged  %d committed  %.0f tx/s  p50 %v  p99 %v",
		r.Elapsed.Seconds(), r.Acked, r.Committed, r.PerSecond(l.noWait),
		r.Latency.Quantile(.5).Round(10*time.Microsecond), r.Latency.Quantile(.99).Round(10*time.Microsecond))
}

func (l *loadFlags) print(out io.Writer, r load.Report) error {
	j := loadJSON{
		Submitted: r.Submitted, Acked: r.Acked, Committed: r.Committed, Failed: r.Failed, Unknown: r.Unknown,
		Seconds: r.Elapsed.Seconds(), TxPerSecond: r.PerSecond(l.noWait),
		P50: ms(r.Latency.Quantile(.5)), P99: ms(r.Latency.Quantile(.99)), Max: ms(r.Latency.Max()),
	}

	if l.asJSON {
		return printJSON(out, j)
	}

	what := "commit"
	if l.noWait {
		what = "acknowledgment"
	}

	_, err := fmt.Fprintf(out, `submitted  %d transactions in %.1f s
acked      %d
committed  %d
failed     %d
unknown    %d
rate       %.0f tx/s
%s p50 %.2f ms, p99 %.2f ms, max %.2f ms
`, j.Submitted, j.Seconds, j.Acked, j.Committed, j.Failed, j.Unknown, j.TxPerSecond, what, j.P50, j.P99, j.Max)

	return err
}

// checkFile compares an --acked file with the node's state. A transaction that was acknowledged
// without a result may still be in the pool, so checkFile first waits until the pool is empty.
func (l *loadFlags) checkFile(cmd *cobra.Command) error {
	f, err := os.Open(l.check)
	if err != nil {
		return err
	}
	defer f.Close()

	_, cancel, c, err := l.app.dial(cmd.Context())
	if err != nil {
		return err
	}

	cancel() // a long file may take longer than one call
	ctx := cmd.Context()
	if err := settled(ctx, c, l.grace); err != nil {
		return l.app.nodeError(ctx, err)
	}

	var j checkJSON
	j.Lines, err = load.Check(ctx, c, f, func(m load.Mismatch) {
		if j.Missing++; len(j.First) < 10 {
			j.First = append(j.First, m.String())
		}
	})
	if err != nil {
		return fmt.Errorf("%s: %w", l.check, l.app.nodeError(ctx, err))
	}

	if l.asJSON {
		err = printJSON(cmd.OutOrStdout(), j)
	} else {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d of %d there\n", j.Lines-j.Missing, j.Lines)
	}
	if err != nil || j.Missing == 0 {
		return err
	}

	for _, m := range j.First {
		fmt.Fprintln(cmd.ErrOrStderr(), m)
	}

	return fmt.Errorf("%d of %d acknowledged transactions are not there", j.Missing, j.Lines)
}

// settled waits until every transaction that the node has accepted has ended.
func settled(ctx context.Context, c *client.Client, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the pool was not empty within %v", limit))
	defer cancel()

	for {
		s, err := c.WaitReady(ctx)
		if err != nil || s.PoolSize == 0 {
			return err
		}
		// An ordered read takes a block, so this waits for the chain and not for a clock.
		if _, _, err := c.GetConsistent(ctx, []byte("settled")); err != nil {
			return err
		}
	}
}
