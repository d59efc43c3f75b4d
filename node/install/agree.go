package install

import (
	"bytes"
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// standing is what a state says of itself, as far as a log can be held against it.
type LoggedState struct {
	chain.State
	Log   [16]byte // what it was made of
	Bound bool     // log is known
}

func ReadLoggedState(db *storage.DB) (LoggedState, error) {
	id, bound, err := db.LogID()
	return LoggedState{db.State(), id, bound}, err
}

// agree tells whether a state and a log belong together (I4), before one record is redone: the log
// is the one that the state was made of, it begins where it may begin, it goes on where the state
// ends, and its record at the state's applied index is the one that led to the state. A state that
// is behind is in order. Errors are ErrDamage and say what to do.
func Agree(l *eventlog.Log, s LoggedState) error {
	disagree := func(format string, args ...any) error {
		return fmt.Errorf("%w: state and log do not belong together: %w", exit.ErrDamage, fmt.Errorf(format, args...))
	}

	if s.Bound && s.Log != l.ID() {
		return disagree("%w: the state was made of log %x, and the log is %x", storage.ErrOtherLog, s.Log, l.ID())
	}

	if s.Index > l.Durable() {
		return disagree("the state is ahead: it has applied record %d, and the log ends at %d; the log was cut back "+
			"or belongs to another home", s.Index, l.Durable())
	}

	base, err := BaseOf(l)
	if err != nil {
		return err
	}

	switch {
	case s.Index == 0 && base != nil:
		return disagree("the log begins with the Base of a restored state at height %d, and the state is gone: "+
			"install it again with 'coppice snapshot restore'", base.Height)

	case s.Index == 0 && l.First() > 1:
		return disagree("there is no state, and the log begins at record %d: install a snapshot first, with 'coppice "+
			"snapshot restore'", l.First())

	case s.Index+1 < l.First():
		return disagree("there is a gap: the state has applied record %d, and the log begins at %d; install a "+
			"snapshot at or past record %d, with 'coppice snapshot restore'", s.Index, l.First(), l.First()-1)

	case s.Index >= l.First():
		return sameRecord(l, s, disagree)
	}

	return nil
}

// baseOf is the Base record that a restored log begins with; nil where the log begins otherwise.
func BaseOf(l *eventlog.Log) (*logv1.Base, error) {
	if l.First() > l.Durable() {
		return nil, nil
	}
	e, err := l.Read(l.First())
	if err != nil || e.Kind != chain.KindBase {
		return nil, err
	}
	m, err := chain.DecodeRecord(e)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", exit.ErrDamage, err)
	}

	return m.(*logv1.Base), nil
}

// sameRecord holds the state against the record that it says it has applied last.
func sameRecord(l *eventlog.Log, s LoggedState, disagree func(string, ...any) error) error {
	e, err := l.Read(s.Index)
	if err != nil {
		return err
	}
	m, err := chain.DecodeRecord(e)
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrDamage, err)
	}

	var is chain.State

	switch m := m.(type) {
	case *logv1.ChainStarted:
		is = chain.State{ChainID: m.ChainId, Period: m.Period, AppHash: m.AppHash}

	case *logv1.BlockCommitted:
		is = chain.State{ChainID: m.ChainId, Period: m.Period, Height: m.Height, AppHash: m.AppHash}

	case *logv1.SnapshotInstalled:
		is = chain.State{ChainID: m.ChainId, Period: m.Period, Height: m.Height, AppHash: m.AppHash}

	case *logv1.Base:
		is = chain.State{ChainID: m.ChainId, Period: m.Period, Height: m.Height, AppHash: m.AppHash}

	default:
		return disagree("record %d, which the state says led to it, is a %s", s.Index, chain.KindName(e.Kind))
	}

	if is.ChainID != s.ChainID || is.Period != s.Period {
		return disagree("the state is of chain %s (period %d), record %d of the log is of %s (period %d)", s.ChainID,
			s.Period, s.Index, is.ChainID, is.Period)
	}

	if is.Height != s.Height || len(is.AppHash) > 0 && !bytes.Equal(is.AppHash, s.AppHash) {
		return disagree("by record %d of the log (%s) the state is at height %d with app hash %x, and it is "+
			"at %d with %x",
			s.Index, chain.KindName(e.Kind), is.Height, is.AppHash, s.Height, s.AppHash)
	}

	return nil
}
