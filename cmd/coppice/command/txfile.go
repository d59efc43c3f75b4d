package command

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// txFile is "tx --file", which submits a file of many transactions.
type txFile struct {
	*txFlags
	name    string
	from    int // line
	batch   int
	goOn    bool
	journal string
	newest  *logv1.Version // of the results; nil: there is none yet
}

func (t *txFile) register(cmd *cobra.Command) {
	t.txFlags.register(cmd)
	f := cmd.Flags()
	f.StringVar(&t.name, "file", "", "file of many transactions, or - for standard input")
	f.IntVar(&t.batch, "batch", 500, "with --file: transactions per submission")
	f.IntVar(&t.from, "from", 1, "with --file: line to begin at")
	f.BoolVar(&t.goOn, "keep-going", false, "with --file: go on after a transaction that was refused or failed")
	f.StringVar(&t.journal, "journal", "", "with --file: file that records the progress; a run with the same journal "+
		"goes on there, and applies nothing twice")

	f.DurationVar(&t.validFor, "valid-for", time.Minute,
		"with --file: how long a transaction may wait for its block before it expires")
}

// fileJSON is what "tx --file --json" prints last.
type fileJSON struct {
	Submitted int `json:"submitted"` // with an answer
	Committed int `json:"committed"` // or, with --no-wait, accepted
	Failed    int `json:"failed"`    // refused, expired, or with a failure as its result
	NextLine  int `json:"next_line"` // where to go on
}

// lineJSON is what "tx --file --json" prints for a transaction.
type lineJSON struct {
	Line int `json:"line"`
	txJSON
}

func (t *txFile) run(cmd *cobra.Command) error {
	switch {
	case t.batch < 1 || t.batch > 10_000:
		return usageError(cmd, "--batch is %d, want 1 to 10000", t.batch)

	case t.from < 1:
		return usageError(cmd, "--from is %d, want at least 1", t.from)

	case t.validFor <= 0:
		return usageError(cmd, "--valid-for is %v, want more than 0", t.validFor)

	case t.journal != "" && t.name == "-":
		return usageError(cmd, "--journal wants a --file that can be read again")

	case t.journal != "" && t.noWait:
		return usageError(cmd, "--journal and --no-wait do not go together")
	}
	if err := t.checkWait(cmd); err != nil {
		return err
	}

	j := fileJournal{File: t.name, Next: t.from}
	if err := t.load(&j); err != nil {
		return err
	}

	in, err := openInput(cmd, t.name)
	if err != nil {
		return err
	}
	defer in.Close()

	c := t.app.client()
	lines := &pieces{in: bufio.NewReaderSize(in, 64<<10), validFor: t.validFor, newTx: c.NewTx, sum: sha256.New()}
	if err := t.check(lines, j); err != nil {
		return err
	}

	earlier := j.Totals.Submitted
	if _, err := t.app.resolve(); err != nil {
		return t.app.nodeError(cmd.Context(), err)
	}

	_, _ = c.Status(cmd.Context()) // for the block time; a node that is down is waited for later

	show := newProgress()
	defer show.end()

	began := time.Now()

	var stopped error
	for stopped == nil {
		if len(j.Batch) == 0 {
			var err error
			if j.Batch, err = lines.next(j.Next, t.batch); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			if len(j.Batch) == 0 {
				break
			}

			j.Read, j.Sum = lines.before(j.Batch[len(j.Batch)-1].Next)
			if err := t.save(j); err != nil {
				return err
			}
		}

		if stopped = t.submit(cmd, c, &j); len(j.Batch) == 0 {
			j.Read, j.Sum = lines.before(j.Next)
		}

		select {
		case <-show.tick:
			show.line(fmt.Sprintf("%6.1fs  line %d  %d committed  %d failed  %.0f tx/s", time.Since(began).Seconds(),
				j.Next, j.Totals.Committed, j.Totals.Failed,
				float64(j.Totals.Submitted)/time.Since(began).Seconds()))
		default:
		}
	}

	show.clear()
	t.awaitLast(cmd, c)

	return errors.Join(t.finish(cmd, &j, earlier, stopped), t.save(j), t.lack())
}

// awaitLast waits until the sinks have the newest block of the run.
func (t *txFile) awaitLast(cmd *cobra.Command, c *client.Client) {
	if t.newest == nil || len(t.sinks) == 0 {
		return
	}
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), t.app.timeout, fmt.Errorf("gave up after %v", t.app.timeout))
	defer cancel()
	t.awaitSinks(ctx, c, t.newest)
}

// submit submits the batch and records its outcomes. If they are not known, it keeps the batch.
func (t *txFile) submit(cmd *cobra.Command, c *client.Client, j *fileJournal) error {
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), t.app.timeout+t.validFor,
		fmt.Errorf("gave up after %v", t.app.timeout+t.validFor))
	defer cancel()

	batch, after := j.Batch, error(nil)
	// Without --keep-going, the run ends before the first malformed transaction.
	if i := slices.IndexFunc(batch, func(p piece) bool { return p.Bad != "" }); i >= 0 && !t.goOn {
		batch, after = batch[:i], fmt.Errorf("line %d: %s", batch[i].Line, batch[i].Bad)
	}

	var txs [][]byte

	for _, p := range batch {
		if p.Bad == "" {
			txs = append(txs, p.Tx)
		}
	}

	var outs []client.Outcome

	if len(txs) > 0 {
		var err error
		if outs, err = c.SubmitMany(ctx, txs, !t.noWait); err != nil {
			return fmt.Errorf("line %d: %w", j.Batch[0].Line, t.app.nodeError(ctx, err))
		}
	}

	var first error

	for _, p := range batch {
		o := client.Outcome{}
		if p.Bad == "" {
			o, outs = outs[0], outs[1:]
		}

		line, err := t.outcome(p, o)
		j.Totals.Submitted++

		if err == nil {
			j.Totals.Committed++
		} else {
			j.Totals.Failed++
			line.Reason = err.Error()
			if first == nil {
				first = fmt.Errorf("line %d: %w", p.Line, err)
			}
			if t.goOn && !t.asJSON {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s:%d: %v\n", t.name, p.Line, err)
			}
		}

		if t.asJSON {
			b, err := json.Marshal(line)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\n", b)
		}

		j.Next = p.Next
	}

	if after != nil {
		j.Next = j.Batch[len(batch)].Line
	}

	j.Batch = nil
	if t.goOn {
		return nil
	}

	return cmp.Or(first, after)
}

// outcome returns the line for a transaction, and an error if the transaction was not applied.
func (t *txFile) outcome(p piece, o client.Outcome) (lineJSON, error) {
	line := lineJSON{Line: p.Line, txJSON: txJSON{ID: o.ID.String(), Outcome: "accepted"}}
	refused := new(client.RefusedError)

	switch {
	case p.Bad != "":
		line.ID, line.Outcome = "", "malformed"
		return line, errors.New(p.Bad)

	case o.Result != nil:
		if v := chain.VersionFromProto(o.Result.Version); t.newest == nil ||
			v.Compare(chain.VersionFromProto(t.newest)) > 0 {
			t.newest = o.Result.Version
		}
		return line, resultOf(&line.txJSON, o.Result, true)

	case errors.As(o.Err, &refused):
		line.Outcome, line.Code = "refused", enumWord(refused.Code, "REFUSED_CODE_")

	case errors.Is(o.Err, client.ErrExpired):
		line.Outcome = "expired"

	case o.Err != nil:
		line.Outcome = "unknown"
	}

	return line, o.Err
}

// finish prints the totals, and returns an error that says how to go on. earlier is how many
// transactions earlier runs submitted.
func (t *txFile) finish(cmd *cobra.Command, j *fileJournal, earlier int, stopped error) error {
	j.Totals.NextLine = j.Next
	var err error

	switch {
	case t.asJSON:
		b, _ := json.Marshal(j.Totals) // numbers only, so it cannot fail
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", b)

	case stopped == nil && earlier > 0 && earlier == j.Totals.Submitted:
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "nothing left to submit; %d committed by earlier runs\n",
			j.Totals.Committed)

	default:
		what := "committed"
		if t.noWait {
			what = "accepted"
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d transactions: %d %s, %d failed\n", j.Totals.Submitted,
			j.Totals.Committed, what, j.Totals.Failed)
	}

	switch {
	case stopped != nil && t.journal != "":
		stopped = fmt.Errorf("%s: %w; the same command goes on with line %d", t.name, stopped, j.Next)

	case stopped != nil && len(j.Batch) > 0:
		stopped = fmt.Errorf("%s: %w; the outcome of lines %d to %d is not known", t.name, stopped, j.Next,
			j.Batch[len(j.Batch)-1].Next-1)

	case stopped != nil:
		stopped = fmt.Errorf("%s: %w; --from %d goes on there", t.name, stopped, j.Next)

	case j.Totals.Failed > 0:
		stopped = fmt.Errorf("%s: %d of %d transactions failed", t.name, j.Totals.Failed, j.Totals.Submitted)
	}

	return errors.Join(err, stopped)
}
