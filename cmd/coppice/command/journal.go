package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/coppice-go/coppice/internal/durable"
)

// fileJournal records the progress of a run, and the batch under way. If a run ends before it knows
// the outcome of the batch, the next run submits the same bytes, which have the same ids.
type fileJournal struct {
	File   string   `json:"file"`
	Next   int      `json:"next_line"`
	Read   int      `json:"read_lines,omitempty"`  // lines of the file up to the end of the batch
	Sum    string   `json:"read_sha256,omitempty"` // of the lines that Read counts
	Batch  []piece  `json:"batch,omitempty"`
	Totals fileJSON `json:"totals"`
}

// load reads the journal, if there is one.
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
		return fmt.Errorf("--journal %s is not a journal: %w", t.journal, err)
	}
	if j.File != t.name {
		return fmt.Errorf("--journal %s is of the file %q", t.journal, j.File)
	}

	return nil
}

// check reads the lines that earlier runs have read. It refuses the file if they have changed: the
// new lines among them would be skipped as already submitted.
func (t *txFile) check(p *pieces, j fileJournal) error {
	if j.Sum == "" { // a new journal
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
			"submitted; nothing was submitted now: restore these lines, or give new transactions a file and "+
			"a journal of their own", t.journal, t.name, j.Read)
	}

	return nil
}

// save replaces the journal, whole and durably. It is called before a batch is submitted.
func (t *txFile) save(j fileJournal) error {
	if t.journal == "" {
		return nil
	}
	b, err := json.Marshal(j)
	if err != nil {
		return err
	}

	return durable.OS.Replace(t.journal, b, 0o600)
}
