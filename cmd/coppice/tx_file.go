package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
)

// txFile submits a file of many transactions: "tx --file".
type txFile struct {
	*txFlags
	name    string
	from    int // line
	batch   int
	goOn    bool
	journal string
}

func (t *txFile) register(cmd *cobra.Command) {
	t.txFlags.register(cmd)
	f := cmd.Flags()
	f.StringVar(&t.name, "file", "", "file of many transactions, - for standard input: an operation per line is a "+
		"transaction, lines between begin and end are one")
	f.IntVar(&t.batch, "batch", 500, "with --file: transactions per submission")
	f.IntVar(&t.from, "from", 1, "with --file: line to begin at")
	f.BoolVar(&t.goOn, "keep-going", false, "with --file: go on after a transaction that was refused or failed")
	f.StringVar(&t.journal, "journal", "", "with --file: file that remembers how far it came; a run with the same "+
		"one goes on there, and applies nothing twice")

	f.DurationVar(&t.validFor, "valid-for", time.Minute,
		"with --file: how long a transaction may wait for its block before it expires")
}

// fileJSON is what "tx --file --json" prints last.
type fileJSON struct {
	Submitted int `json:"submitted"` // with an answer
	Committed int `json:"committed"` // or, with --no-wait, accepted
	Failed    int `json:"failed"`    // refused, expired, or with a result that is a failure
	NextLine  int `json:"next_line"` // to go on at
}

// lineJSON is what "tx --file --json" prints of a transaction.
type lineJSON struct {
	Line int `json:"line"`
	txJSON
}

// piece is one transaction of a file.
type piece struct {
	Line int    `json:"line"`          // its first
	Next int    `json:"next"`          // the first after it
	Tx   []byte `json:"tx,omitempty"`  // canonical bytes
	Bad  string `json:"bad,omitempty"` // why its lines are no transaction
}

// fileJournal is the batch under way: its bytes are submitted again, and so have the same ids, when
// a run ended before it knew their outcome.
type fileJournal struct {
	File   string   `json:"file"`
	Next   int      `json:"next_line"`
	Read   int      `json:"read_lines,omitempty"`  // of the file: those before Next, and those of the batch
	Sum    string   `json:"read_sha256,omitempty"` // of these lines
	Batch  []piece  `json:"batch,omitempty"`
	Totals fileJSON `json:"totals"`
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

	j := fileJournal{File: t.name, Next: t.from}
	if err := t.load(&j); err != nil {
		return err
	}

	in := cmd.InOrStdin()

	if t.name != "-" {
		f, err := os.Open(t.name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}

	lines := &pieces{in: bufio.NewReaderSize(in, 64<<10), validFor: t.validFor, sum: sha256.New()}
	if err := t.check(lines, j); err != nil {
		return err
	}

	earlier := j.Totals.Submitted
	if _, err := t.app.resolve(); err != nil {
		return t.app.nodeError(cmd.Context(), err)
	}

	c := t.app.client()
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

	return errors.Join(t.finish(cmd, &j, earlier, stopped), t.save(j))
}

// submit submits the batch and takes its outcomes. The batch stays where these are not known.
func (t *txFile) submit(cmd *cobra.Command, c *client.Client, j *fileJournal) error {
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), t.app.timeout+t.validFor,
		fmt.Errorf("gave up after %v", t.app.timeout+t.validFor))
	defer cancel()

	batch, after := j.Batch, error(nil)
	// the run ends before it
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

// outcome is one transaction's; the error is that of one that was not applied.
func (t *txFile) outcome(p piece, o client.Outcome) (lineJSON, error) {
	line := lineJSON{Line: p.Line, txJSON: txJSON{ID: o.ID.String(), Outcome: "accepted"}}
	refused := new(client.RefusedError)

	switch {
	case p.Bad != "":
		line.ID, line.Outcome = "", "malformed"
		return line, errors.New(p.Bad)

	case o.Result != nil:
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

// finish tells the totals, and how to go on. Earlier is how many transactions earlier runs
// submitted.
func (t *txFile) finish(cmd *cobra.Command, j *fileJournal, earlier int, stopped error) error {
	j.Totals.NextLine = j.Next
	var err error

	switch {
	case t.asJSON:
		b, _ := json.Marshal(j.Totals) // numbers
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
		stopped = fmt.Errorf("%s: %w; what became of lines %d to %d is not known", t.name, stopped, j.Next,
			j.Batch[len(j.Batch)-1].Next-1)

	case stopped != nil:
		stopped = fmt.Errorf("%s: %w; --from %d goes on there", t.name, stopped, j.Next)

	case j.Totals.Failed > 0:
		stopped = fmt.Errorf("%s: %d of %d transactions failed", t.name, j.Totals.Failed, j.Totals.Submitted)
	}

	return errors.Join(err, stopped)
}

func (t *txFile) load(j *fileJournal) error {
	if t.journal == "" {
		return nil
	}
	b, err := os.ReadFile(t.journal)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}

	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(j); err != nil {
		return fmt.Errorf("--journal %s is none: %w", t.journal, err)
	}
	if j.File != t.name {
		return fmt.Errorf("--journal %s is of the file %q", t.journal, j.File)
	}

	return nil
}

// check reads what of the file the journal says was read, and refuses another: its lines would be
// taken for submitted ones.
func (t *txFile) check(p *pieces, j fileJournal) error {
	if j.Sum == "" { // a new one
		return nil
	}

	p.keep = j.Next - 1

	for p.line < j.Read && !p.over {
		if _, err := p.read(); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}

	if n, sum := p.before(p.line + 1); n != j.Read || sum != j.Sum {
		return fmt.Errorf("--journal %s: %s has changed in its first %d lines, which earlier runs have read and "+
			"submitted; nothing was submitted now: "+
			"restore these lines, or give new transactions a file and a journal of their own", t.journal,
			t.name, j.Read)
	}

	return nil
}

// save remembers how far the run came, durably, before anything of a batch is submitted.
func (t *txFile) save(j fileJournal) error {
	if t.journal == "" {
		return nil
	}
	b, err := json.Marshal(j)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(t.journal+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}

	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close(), os.Rename(t.journal+".tmp", t.journal))
}

// pieces reads transactions from lines.
type pieces struct {
	in       *bufio.Reader
	validFor time.Duration
	line     int // read so far
	over     bool

	sum  hash.Hash      // of the lines read so far
	sums map[int]string // what it was after a line, for those from keep on
	keep int
}

// before answers how many lines are before this one, and their digest.
func (p *pieces) before(line int) (int, string) {
	if line <= 1 {
		return 0, ""
	}
	return line - 1, p.sums[line-1]
}

// maxLine bounds a line; no operation is longer.
const maxLine = 2*chain.MaxTxBytes + 1<<20

func (p *pieces) read() (string, error) {
	var b []byte
	for {
		part, err := p.in.ReadSlice('\n')
		b = append(b, part...)
		switch {
		case len(b) > maxLine:
			return "", fmt.Errorf("line %d: more than %d bytes, longer than any transaction", p.line+1, maxLine)

		case errors.Is(err, bufio.ErrBufferFull):
			continue

		case errors.Is(err, io.EOF) && len(b) == 0:
			p.over = true
			return "", nil

		case err != nil && !errors.Is(err, io.EOF):
			return "", err
		}

		p.line++
		text := strings.TrimRight(string(b), "\r\n")
		p.sum.Write([]byte(text + "\n")) // a last line without its end is the same line

		if p.line >= p.keep {
			if p.sums == nil {
				p.sums = make(map[int]string)
			}
			p.sums[p.line] = hex.EncodeToString(p.sum.Sum(nil))
		}

		return text, nil
	}
}

// next answers up to max transactions that begin at the line from or later. None: the file is at
// its end.
func (p *pieces) next(from, max int) (batch []piece, err error) {
	p.keep = from - 1
	maps.DeleteFunc(p.sums, func(line int, _ string) bool { return line < p.keep })

	bytes := 0
	for len(batch) < max && bytes < chain.MaxTxBytes {
		text, err := p.read()
		if err != nil || p.over {
			return batch, err
		}

		first := p.line

		switch strings.TrimSpace(text) {
		case "begin":
			var group []string
			for {
				text, err = p.read()
				if err != nil {
					return batch, err
				}
				if p.over {
					return batch, fmt.Errorf("line %d: begin without end", first)
				}
				if strings.TrimSpace(text) == "end" {
					break
				}

				group = append(group, text)
			}

			text = "\n" + strings.Join(group, "\n") // so that errors count lines from the one of begin
		}

		if first < from {
			continue
		}

		made := piece{Line: first, Next: p.line + 1}
		ops, err := kv.ParseText(text)
		if err == nil && len(ops) == 0 && first == p.line {
			continue // an empty line, or a comment
		}
		if err == nil {
			made.Tx, err = encodeOps(ops, p.validFor)
		}
		if err != nil {
			made.Bad = err.Error()
		}

		bytes += len(made.Tx)
		batch = append(batch, made)
	}

	return batch, nil
}

func encodeOps(ops []kv.Op, validFor time.Duration) ([]byte, error) {
	body, err := kv.Encode(ops...)
	if err != nil {
		return nil, err
	}
	return chain.NewTx(kv.Name, body, validFor).Encode()
}
