package inflight

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/internal/durable"
)

// ErrDeaths: the contents of the file of deaths are not what was written. The file is written in
// one step, so a crash does not cause that.
var ErrDeaths = errors.New("file of deaths")

// maxKept is the largest number of transactions in the file. The transaction whose last death is
// longest ago is removed first.
const maxKept = 4 * Slots

const deathsFormat = 1

// ledger is the contents of the file of deaths: JSON, which people can read and edit.
type ledger struct {
	Format       int      `json:"format"`
	Counted      string   `json:"counted"`      // the run whose marks were counted last
	Transactions []record `json:"transactions"` // ordered by last death, the latest last
}

// record counts the deaths of a process at which a transaction was running its backend's code.
type record struct {
	ID     string `json:"id"`
	Eager  int    `json:"eager"`  // before it had its place
	Placed int    `json:"placed"` // at its place
}

// Check returns ErrDeaths if the file of deaths in dir cannot be read. It changes nothing.
func Check(dir string) error {
	_, err := readLedger(filepath.Join(dir, deathsFile))
	return err
}

func readLedger(path string) (ledger, error) {
	l := ledger{Format: deathsFormat}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return l, err
	}

	bad := func(err error) (ledger, error) {
		return ledger{}, fmt.Errorf("%w: %s: %w (removing it forgets which transactions were in flight when the "+
			"process died)", ErrDeaths, path, err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	l = ledger{}
	if err := d.Decode(&l); err != nil {
		return bad(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return bad(fmt.Errorf("there is more after byte %d", d.InputOffset()))
	}
	if l.Format != deathsFormat {
		return bad(fmt.Errorf("format %d, want %d", l.Format, deathsFormat))
	}

	for i, r := range l.Transactions {
		if _, err := chain.ParseTxID(r.ID); err != nil {
			return bad(fmt.Errorf("entry %d: %w", i, err))
		}
		if r.Eager < 0 || r.Placed < 0 {
			return bad(fmt.Errorf("entry %d: %d and %d deaths, want none or more", i, r.Eager, r.Placed))
		}
	}

	return l, nil
}

// count adds one death to each transaction that was marked in the given run. If that run was
// already counted, it does nothing and returns false.
func (l *ledger) count(run name, flights []Flight) bool {
	id := hex.EncodeToString(run[:])
	if l.Counted == id {
		return false
	}

	l.Counted = id
	at := make(map[string]record, len(l.Transactions))
	for _, r := range l.Transactions {
		at[r.ID] = r
	}

	died := make(map[string]bool)
	var order []string

	for _, f := range flights {
		id := f.ID.String()
		r := at[id]
		r.ID = id

		if f.Placed {
			r.Placed++
		} else {
			r.Eager++
		}

		at[id] = r
		if !died[id] {
			died[id], order = true, append(order, id)
		}
	}

	l.forget(died)
	for _, id := range order {
		l.Transactions = append(l.Transactions, at[id])
	}

	if over := len(l.Transactions) - maxKept; over > 0 {
		l.Transactions = l.Transactions[over:]
	}

	return true
}

func (l *ledger) forget(ids map[string]bool) {
	l.Transactions = slices.DeleteFunc(slices.Clone(l.Transactions), func(r record) bool { return ids[r.ID] })
}

// known returns the ledger as a map by transaction, or nil if it is empty.
func (l *ledger) known() map[chain.TxID]record {
	if len(l.Transactions) == 0 {
		return nil
	}

	m := make(map[chain.TxID]record, len(l.Transactions))

	for _, r := range l.Transactions {
		id, _ := chain.ParseTxID(r.ID) // the id was checked when read, or printed by this package
		m[id] = r
	}

	return m
}

// write writes the ledger to the file at path, in one durable step. An empty ledger needs no file.
func (l *ledger) write(path string) error {
	if len(l.Transactions) == 0 {
		if err := durable.OS.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}

	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}

	return durable.OS.Replace(path, append(data, '\n'), 0o600)
}
