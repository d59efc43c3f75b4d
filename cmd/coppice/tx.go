package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// txFlags are what the commands that submit share.
type txFlags struct {
	app      *app
	noWait   bool
	asJSON   bool
	dryRun   bool
	validFor time.Duration
}

func (t *txFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&t.noWait, "no-wait", false, "return once the transaction is durable, without its result")
	f.BoolVar(&t.asJSON, "json", false, "print JSON")
}

func (t *txFlags) registerNew(cmd *cobra.Command) {
	t.register(cmd)
	f := cmd.Flags()
	f.BoolVar(&t.dryRun, "dry-run", false,
		"print the transaction's bytes in hexadecimal, for tx raw, and submit nothing")
	f.DurationVar(&t.validFor, "valid-for", time.Minute, "how long it may wait for its block before it expires")
}

func (a *app) txCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tx",
		Short: "Submit a transaction, or ask what became of one",
		Long: `Tx submits transactions. By default it waits for the result and prints it; with --no-wait it returns as soon as the
transaction is durable, from when on it survives any crash until it has a result or has expired.

While the node is down it tries again, with the same transaction id, so that it is applied once however often it was sent.

With --file it submits a file of many transactions: each line is one, of an operation as in "tx ops", and the lines between a
line "begin" and a line "end" are one together. The first that is refused or fails ends the run, and the line to go on at is
told; what is in its batch is submitted all the same, so that --batch 1 stops at once. --keep-going counts instead. With --journal a
run that was interrupted, or killed, goes on where it was when the same command is run again, and applies nothing twice. --json
prints a JSON object per line: each transaction, and the totals last.

On a command line a negative number goes after a --: coppice tx add account -- -5. In a file it needs none.`,
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

	for _, c := range []struct{ use, short, example string }{
		{"put KEY VALUE", "Write a value", "coppice tx put greeting hello"},
		{"delete KEY", "Remove a key", "coppice tx delete greeting"},
		{"add KEY DELTA", "Add a whole number to a counter", "coppice tx add visits 1\n  coppice tx add balance -- -5"},
		{"append KEY MEMBER", "Add a member to a set", "coppice tx append colours green"},
		{"cas KEY equals EXPECTED VALUE | KEY absent VALUE", "Write a value if the key has the expected one, or none",
			"coppice tx cas lock absent me\n  coppice tx cas lock equals me you"},
		{"require KEY equals VALUE | KEY exists | KEY absent", "Succeed only if the condition holds",
			"coppice tx require lock equals me"},
		{"read KEY", "Read a key in the order of transactions", "coppice tx read greeting"},
	} {
		cmd.AddCommand(a.txOpCommand(c.use, c.short, c.example))
	}

	cmd.AddCommand(a.txOpsCommand(), a.txRawCommand(), a.txGetCommand())

	return cmd
}

// txOpCommand is one operation of the kv backend; package kv reads its words.
func (a *app) txOpCommand(use, short, example string) *cobra.Command {
	t := &txFlags{app: a}
	name, _, _ := strings.Cut(use, " ")
	cmd := &cobra.Command{
		Use: use, Short: short, Example: "  " + example,
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

func (a *app) txOpsCommand() *cobra.Command {
	t := &txFlags{app: a}
	cmd := &cobra.Command{
		Use:   "ops FILE|-",
		Short: "Submit many operations as one transaction: all of them or none",
		Long: "Ops reads operations from a file, or from standard input, one per line:\n\n  " +
			strings.ReplaceAll(strings.TrimSpace(kv.Usage()), "\n", "\n  "),
		Example: `  printf 'require a exists\nadd a -5\nadd b 5\n' | coppice tx ops -
  coppice tx ops transfer.txt`,
		Args: words("FILE|-"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := readInput(cmd, args[0])
			if err != nil {
				return err
			}
			ops, err := kv.ParseText(string(b))
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}

			return t.submitOps(cmd, ops...)
		},
	}
	t.registerNew(cmd)
	return cmd
}

func (a *app) txRawCommand() *cobra.Command {
	t := &txFlags{app: a}
	var backend string
	cmd := &cobra.Command{
		Use:   "raw FILE|-",
		Short: "Submit the bytes of a transaction, or a body for a backend",
		Long: `Raw reads bytes in hexadecimal, blanks and line ends aside, and submits them as they are: the canonical bytes of a
transaction, such as --dry-run prints. The same bytes are the same transaction: they have one effect however often they are
submitted, and the same answer. With --backend they are the body of a new transaction for that backend.`,
		Example: `  coppice tx put greeting hello --dry-run > tx.hex
  coppice tx raw tx.hex && coppice tx raw tx.hex
  echo 6b3d76 | coppice tx raw --backend kvstore -`,
		Args: words("FILE|-"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := readInput(cmd, args[0])
			if err != nil {
				return err
			}
			raw, err := hex.DecodeString(strings.Join(strings.Fields(string(b)), ""))
			if err != nil {
				return fmt.Errorf("%s: want hexadecimal digits: %w", args[0], err)
			}
			if backend != "" {
				return t.submitBody(cmd, backend, raw)
			}

			return t.submitBytes(cmd, raw)
		},
	}
	t.registerNew(cmd)
	cmd.Flags().StringVar(&backend, "backend", "", "the bytes are a body for this backend")

	return cmd
}

func (a *app) txGetCommand() *cobra.Command {
	t := &txFlags{app: a}
	var wait time.Duration
	cmd := &cobra.Command{
		Use:     "get ID",
		Short:   "Tell what became of a transaction",
		Example: `  coppice tx get 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --wait 5s`,
		Args:    words("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := chain.ParseTxID(args[0])
			if err != nil {
				return usageError(cmd, "%w", err)
			}
			ctx, cancel, c, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer cancel()

			o, err := c.Tx(ctx, id, wait)
			if err != nil && o.Err == nil && !errors.Is(err, client.ErrNotFound) {
				return a.nodeError(ctx, err) // nobody could be asked
			}

			return t.print(cmd, ctx, o, err, false)
		},
	}
	cmd.Flags().BoolVar(&t.asJSON, "json", false, "print JSON")
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to wait for a result")

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
	if t.validFor <= 0 {
		return usageError(cmd, "--valid-for is %v, want more than 0", t.validFor)
	}
	encoded, err := chain.NewTx(backend, body, t.validFor).Encode()
	if err != nil {
		return err
	}
	return t.submitBytes(cmd, encoded)
}

func (t *txFlags) submitBytes(cmd *cobra.Command, encoded []byte) error {
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
}

type txReadJSON struct {
	Found bool  `json:"found"`
	Value *text `json:"value,omitempty"`
}

// print tells the outcome. Whatever is not accepted or applied is an error, and exits 1.
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

	case err != nil: // nobody was reached
		j.Outcome = "not submitted"
		err = fmt.Errorf("transaction %s was not submitted: %w", o.ID, t.app.nodeError(ctx, err))
	}

	if err != nil {
		j.Reason = err.Error()
	}
	if t.asJSON {
		return errors.Join(printJSON(cmd.OutOrStdout(), j), err)
	}
	if err != nil {
		return err
	}

	out := cmd.OutOrStdout()

	if o.Result == nil {
		_, err = fmt.Fprintf(out, "accepted %s\n", j.ID)
		return err
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

	return nil
}

// resultOf puts a result into j; the error is that of a transaction that failed.
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

// readInput reads a file, or standard input for "-", up to what a transaction can be in
// hexadecimal.
func readInput(cmd *cobra.Command, name string) ([]byte, error) {
	in := cmd.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}

	const limit = 2*chain.MaxTxBytes + 1<<20
	b, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && len(b) > limit {
		err = fmt.Errorf("%s: more than %d bytes, longer than any transaction", name, limit)
	}

	return b, err
}
