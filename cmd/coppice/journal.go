package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

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
