package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// txFlags are the flags of the commands that submit a transaction.
type txFlags struct {
	app      *app
	noWait   bool
	asJSON   bool
	dryRun   bool
	validFor time.Duration
	sinks    []string // to wait for
	lacking  []string // of those, what is said of each that lacks the block
}

func (t *txFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&t.noWait, "no-wait", false, "return when the transaction is durable, without its result")
	f.BoolVar(&t.asJSON, "json", false, "print JSON")
	t.registerSinks(cmd)
}

func (t *txFlags) registerSinks(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&t.sinks, "wait-sink", nil,
		"also wait until the sink of this stream has the transaction's block (may be repeated)")
}

// checkWait refuses flags that exclude each other.
func (t *txFlags) checkWait(cmd *cobra.Command) error {
	if t.noWait && len(t.sinks) > 0 {
		return usageError(cmd, "--no-wait and --wait-sink do not go together")
	}
	return nil
}

// awaitSinks waits until the sinks have a block, and notes those that do not have it in time.
func (t *txFlags) awaitSinks(ctx context.Context, c *client.Client, v *logv1.Version) {
	at := &apiv1.StreamPosition{Period: v.GetPeriod(), Height: v.GetHeight()}
	for _, name := range t.sinks {
		if err := c.AwaitSink(ctx, name, at); err != nil {
			said := new(connect.Error)
			if errors.As(err, &said) {
				err = errors.New(said.Message())
			} else {
				err = t.app.nodeError(ctx, err)
			}
			t.lacking = append(t.lacking, fmt.Sprintf("%s: %v", name, err))
		}
	}
}

// lack returns an error if a sink lacks the block.
func (t *txFlags) lack() error {
	if len(t.lacking) == 0 {
		return nil
	}
	return fmt.Errorf("the block is not in every sink: %s", strings.Join(t.lacking, "; "))
}

// registerNew adds the flags of the commands that make a transaction.
func (t *txFlags) registerNew(cmd *cobra.Command) {
	t.register(cmd)
	f := cmd.Flags()
	f.BoolVar(&t.dryRun, "dry-run", false,
		"print the transaction's bytes in hexadecimal, for 'tx raw', and submit nothing")
	f.DurationVar(&t.validFor, "valid-for", time.Minute,
		"how long the transaction may wait for its block before it expires")
}

func (a *app) txCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tx",
		Short: "Submit a transaction, or print the outcome of one",
		Long: `Tx submits transactions. By default it waits for the result and prints it. With --no-wait it returns
as soon as the transaction is durable; from then on the transaction survives any crash until it has
a result or has expired. While the node is down, tx submits the same transaction again, so that it
is applied once however often it was sent.

With --file, tx submits a file of many transactions. A line is a transaction of one operation, as in
'coppice tx ops'; the lines between a line "begin" and a line "end" are one transaction. The first
transaction that is refused or fails ends the run, and tx prints the line to go on at. The rest of
its batch is submitted all the same, so use --batch 1 to stop at once. With --keep-going, tx counts
the failures and goes on. With --journal, a run that was interrupted or killed goes on where it was
when the same command is run again, and applies nothing twice. With --json, tx prints a JSON object
per line: each transaction, and last the totals.

On a command line, a negative number goes after a --: coppice tx add account -- -5. In a file it
needs none.`,
		Example: `  coppice tx put greeting hello
  coppice tx add visits 1
  coppice tx ops - <<END
  require account exists
  add account -5
  END
  coppice tx --file orders.txt --journal orders.journal`,
		Args: cobra.ArbitraryArgs,
	}
	many := &txFile{txFlags: &txFlags{app: a}}
	many.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case many.name == "" && cmd.Flags().NFlag() > cmd.InheritedFlags().NFlag():
			return usageError(cmd, "these flags go with --file, or after the name of an operation")
		case many.name == "":
			return groupOnly(cmd, args)
		case len(args) > 0:
			return usageError(cmd, "%d arguments, want none with --file", len(args))
		}
		return many.run(cmd)
	}

	for _, op := range []txOp{txPut, txDelete, txAdd, txAppend, txCAS, txRequire, txRead} {
		cmd.AddCommand(a.txOpCommand(op))
	}

	cmd.AddCommand(a.txOpsCommand(), a.txRawCommand(), a.txGetCommand())

	return cmd
}

// txOp describes a command that submits one operation of the kv backend.
type txOp struct{ use, short, example string }

// txOpCommand returns the command of op. Package kv parses its arguments.
func (a *app) txOpCommand(op txOp) *cobra.Command {
	t := &txFlags{app: a}
	name, _, _ := strings.Cut(op.use, " ")
	cmd := &cobra.Command{
		Use: op.use, Short: op.short, Example: "  " + op.example,
		RunE: func(cmd *cobra.Command, args []string) error {
			op, err := kv.ParseOp(append([]string{name}, args...)...)
			if err != nil {
				return usageError(cmd, "%w", err)
			}
			return t.submitOps(cmd, op)
		},
	}
	t.registerNew(cmd)
	return cmd
}

func (t *txFlags) submitOps(cmd *cobra.Command, ops ...kv.Op) error {
	body, err := kv.Encode(ops...)
	if err != nil {
		return err
	}
	return t.submitBody(cmd, kv.Name, body)
}

func (t *txFlags) submitBody(cmd *cobra.Command, backend string, body []byte) error {
	if err := t.checkWait(cmd); err != nil {
		return err
	}
	if t.validFor <= 0 {
		return usageError(cmd, "--valid-for is %v, want more than 0", t.validFor)
	}

	if t.dryRun {
		encoded, err := chain.NewTx(backend, body, t.validFor).Encode()
		if err != nil {
			return err
		}
		return t.submitBytes(cmd, encoded)
	}

	ctx, cancel, c, err := t.app.dial(cmd.Context())
	if err != nil {
		return err
	}
	defer cancel()

	o, err := c.SubmitNew(ctx, backend, body, t.validFor, !t.noWait)
	if o.Result != nil {
		t.awaitSinks(ctx, c, o.Result.Version)
	}
	return t.print(cmd, ctx, o, err, backend == kv.Name)
}

func (t *txFlags) submitBytes(cmd *cobra.Command, encoded []byte) error {
	if err := t.checkWait(cmd); err != nil {
		return err
	}
	if t.dryRun {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%x\n", encoded)
		return err
	}

	ctx, cancel, c, err := t.app.dial(cmd.Context())
	if err != nil {
		return err
	}
	defer cancel()

	outs, err := c.SubmitMany(ctx, [][]byte{encoded}, !t.noWait)
	if outs[0].Err != nil {
		err = outs[0].Err
	}
	if r := outs[0].Result; r != nil {
		t.awaitSinks(ctx, c, r.Version)
	}

	kvBody := false
	if tx, err := chain.DecodeTx(encoded); err == nil {
		kvBody = tx.Backend == kv.Name
	}

	return t.print(cmd, ctx, outs[0], err, kvBody)
}

// txJSON is what the tx commands print with --json.
type txJSON struct {
	ID      string       `json:"id"`
	Outcome string       `json:"outcome"` // accepted, result, refused, expired, unknown
	Code    string       `json:"code,omitempty"`
	Version string       `json:"version,omitempty"` // period/height/index
	Height  uint64       `json:"height,omitempty"`
	Data    *text        `json:"data,omitempty"`
	Reads   []txReadJSON `json:"reads,omitempty"`
	Reason  string       `json:"reason,omitempty"`
	Lacking []string     `json:"lacking,omitempty"` // sinks without the block, and why
}

type txReadJSON struct {
	Found bool  `json:"found"`
	Value *text `json:"value,omitempty"`
}

// print prints the outcome of a transaction. It returns an error unless the transaction was
// accepted or applied.
func (t *txFlags) print(cmd *cobra.Command, ctx context.Context, o client.Outcome, err error, kvBody bool) error {
	j := txJSON{ID: o.ID.String(), Outcome: "accepted"}
	refused := new(client.RefusedError)

	switch {
	case o.Result != nil:
		if err = resultOf(&j, o.Result, kvBody); err != nil {
			err = fmt.Errorf("transaction %s: %w", o.ID.Short(), err)
		}

	case errors.Is(err, client.ErrUnknown):
		j.Outcome, err = "unknown", fmt.Errorf("transaction %s: %w", o.ID, err)

	case errors.As(err, &refused):
		j.Outcome, j.Code = "refused", enumWord(refused.Code, "REFUSED_CODE_")

	case errors.Is(err, client.ErrExpired):
		j.Outcome = "expired"

	case errors.Is(err, client.ErrNotFound):
		return err

	case err != nil && o.Err == nil:
		err = notYet(o.ID, t.app.nodeError(ctx, err))

	case err != nil && ctx.Err() == nil:
		return t.app.nodeError(ctx, err)

	case err != nil: // no node was reached
		j.Outcome = "not submitted"
		err = fmt.Errorf("transaction %s was not submitted: %w", o.ID, t.app.nodeError(ctx, err))
	}
	if err != nil {
		j.Reason = err.Error()
	}
	j.Lacking = t.lacking
	if err == nil {
		err = t.lack()
	}
	if t.asJSON {
		return errors.Join(printJSON(cmd.OutOrStdout(), j), err)
	}
	if err != nil && len(t.lacking) == 0 {
		return err
	}

	out := cmd.OutOrStdout()

	if o.Result == nil {
		_, werr := fmt.Fprintf(out, "accepted %s\n", j.ID)
		return errors.Join(werr, err)
	}

	fmt.Fprintf(out, "committed %s at %s\n", j.ID, j.Version)

	for _, r := range j.Reads {
		switch {
		case !r.Found:
			fmt.Fprintln(out, "absent")
		case r.Value.Text != nil:
			fmt.Fprintln(out, *r.Value.Text)
		default:
			fmt.Fprintf(out, "%x\n", r.Value.Base64)
		}
	}

	if len(j.Reads) == 0 && len(o.Result.Data) > 0 {
		fmt.Fprintf(out, "%x\n", o.Result.Data)
	}

	return err
}

// resultOf puts a result into j. It returns an error if the transaction failed.
func resultOf(j *txJSON, r *logv1.TxResult, kvBody bool) error {
	v := chain.VersionFromProto(r.Version)
	j.Outcome, j.Code, j.Version, j.Height = "result", enumWord(r.Code, "CODE_"), v.String(), v.Height
	if r.Code != logv1.Code_CODE_OK {
		return fmt.Errorf("%s: %s", j.Code, r.Log)
	}
	if len(r.Data) == 0 {
		return nil
	}

	if kvBody {
		answers, err := kv.DecodeResult(r.Data)
		if err != nil {
			return err
		}

		for _, a := range answers {
			read := txReadJSON{Found: a.Found}
			if a.Found {
				v := textOf(a.Value)
				read.Value = &v
			}
			j.Reads = append(j.Reads, read)
		}

		return nil
	}

	d := textOf(r.Data)
	j.Data = &d

	return nil
}
