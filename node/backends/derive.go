package backends

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Needed returns what the chain of a home needs: its record or, if it has none, what the log shows.
// The log must not be open for writing. progress is called while the log is read; disk may be nil
// for the operating system's. Errors are exit.ErrDamage, exit.ErrConfig and those of the log.
func Needed(ctx context.Context, dir string, disk eventlog.FS, progress func(done, total uint64)) (Record, error) {
	r, err := Read(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}

	l, err := eventlog.OpenReadOnly(home.LogDir(dir), eventlog.Options{FS: disk, QuickOpen: true})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, eventlog.ErrNotFound) {
		return nil, nil // a home that was never started
	}
	if err != nil {
		return nil, err
	}
	defer l.Close()

	return Derive(ctx, l, progress)
}

// Derive returns the backends that a log shows to be needed: those of the transactions that were
// accepted here, and of those that a block executed. Versions are not in the log, so each is 1.
func Derive(ctx context.Context, l *eventlog.Log, progress func(done, total uint64)) (Record, error) {
	used := make(map[string]bool)
	use := func(raw []byte) {
		if tx, err := chain.DecodeTx(raw); err == nil {
			used[tx.Backend] = true
		}
	}

	var decided *logv1.OrderDecided
	first, last := l.First(), l.Durable()

	for e, err := range chain.Records(l.Cursor, first, last, chain.KindTxLaunched, chain.KindOrderDecided,
		chain.KindBlockCommitted) {
		if lost := new(eventlog.CorruptError); errors.As(err, &lost) && lost.Gap {
			continue // what is lost cannot be replayed either
		}
		if err := cmp.Or(err, context.Cause(ctx)); err != nil {
			return nil, err
		}
		if e.Index%1024 == 0 {
			progress(e.Index-first, last+1-first)
		}

		m, err := chain.DecodeRecord(e)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", exit.ErrDamage, err)
		}

		switch m := m.(type) {
		case *logv1.TxLaunched:
			use(m.Tx)

		case *logv1.OrderDecided:
			decided = m

		case *logv1.BlockCommitted:
			for i, r := range m.Results {
				if decided != nil && i < len(decided.Txs) && executed(r.Code) {
					use(decided.Txs[i])
				}
			}
			decided = nil
		}
	}

	r := make(Record, 0, len(used))
	for _, name := range slices.Sorted(maps.Keys(used)) {
		r = append(r, Need{Name: name, Oldest: 1, Newest: 1})
	}

	return r, nil
}

// executed reports whether a transaction with this result was given to its backend.
func executed(c logv1.Code) bool {
	switch c {
	case logv1.Code_CODE_OK, logv1.Code_CODE_FAILED, logv1.Code_CODE_PANICKED, logv1.Code_CODE_LIMIT:
		return true
	}
	return false
}
