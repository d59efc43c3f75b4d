package install

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// LoggedState is the position of a state, with the log that the state was made from. Agree compares
// it with a log.
type LoggedState struct {
	chain.State
	Log   [16]byte // the id of the log
	Bound bool     // Log is known
}

// ReadLoggedState returns the position of an open state.
func ReadLoggedState(db *storage.DB) (LoggedState, error) {
	id, bound, err := db.LogID()
	return LoggedState{db.State(), id, bound}, err
}

// Agree returns an error if a state and a log do not belong together (invariant I4 in
// docs/architecture.md). It is called before any record is executed again. The log must be the one
// that the state was made from, and must begin where a log may begin. It must not lack records
// after the state, and its record at the state's applied index must be the one that led to the
// state. A state that is behind the log is in order. Errors are exit.ErrDamage and say what to do.
func Agree(l *eventlog.Log, s LoggedState) error {
	disagree := func(format string, args ...any) error {
		return fmt.Errorf("%w: state and log do not belong together: %w", exit.ErrDamage, fmt.Errorf(format, args...))
	}

	if s.Bound && s.Log != l.ID() {
		return disagree("%w: the state was made from log %x, the log is %x", storage.ErrOtherLog, s.Log, l.ID())
	}

	if s.Index > l.Durable() {
		return disagree("the state is ahead: it has applied record %d, but the log ends at %d; the log was cut back "+
			"or belongs to another home", s.Index, l.Durable())
	}

	base, err := BaseOf(l)
	if err != nil {
		return err
	}

	switch {
	case s.Index == 0 && base != nil:
		return disagree("the log begins with the Base of a restored state at height %d, but the state is gone: "+
			"install it again with 'coppice snapshot restore'", base.Height)

	case s.Index == 0 && l.First() > 1:
		return disagree("there is no state, but the log begins at record %d: install a snapshot first, with 'coppice "+
			"snapshot restore'", l.First())

	case s.Index+1 < l.First():
		return disagree("there is a gap: the state has applied record %d, but the log begins at %d; install a "+
			"snapshot at or past record %d, with 'coppice snapshot restore'", s.Index, l.First(), l.First()-1)

	case s.Index >= l.First():
		return sameRecord(l, s, disagree)
	}

	return nil
}

// BaseOf returns the Base record that a restored log begins with; nil if the log begins with
// another record.
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

// sameRecord returns an error if the record at the state's applied index is not one that leads to
// this state.
func sameRecord(l *eventlog.Log, s LoggedState, disagree func(string, ...any) error) error {
	e, err := l.Read(s.Index)
	if err != nil {
		return err
	}
	m, err := chain.DecodeRecord(e)
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrDamage, err)
	}

	want, ok := StateAfter(m, s.Index)
	if !ok {
		return disagree("the state claims to come from record %d, which is a %s", s.Index, chain.KindName(e.Kind))
	}

	if want.ChainID != s.ChainID || want.Period != s.Period {
		return disagree("the state is of chain %s (period %d), record %d of the log is of %s (period %d)", s.ChainID,
			s.Period, s.Index, want.ChainID, want.Period)
	}

	if want.Height != s.Height || len(want.AppHash) > 0 && !bytes.Equal(want.AppHash, s.AppHash) {
		return disagree("by record %d of the log (%s) the state is at height %d with app hash %x, but it is at %d "+
			"with %x", s.Index, chain.KindName(e.Kind), want.Height, want.AppHash, s.Height, s.AppHash)
	}

	return nil
}

// StateAfter returns the state that the record m at index leads to; ok is false if a record of its
// kind leads to no state.
func StateAfter(m proto.Message, index uint64) (s chain.State, ok bool) {
	switch m := m.(type) {
	case *logv1.ChainStarted:
		s = chain.State{ChainID: m.ChainId, Period: m.Period, AppHash: m.AppHash, Index: index}

	case *logv1.BlockCommitted:
		s = chain.State{ChainID: m.ChainId, Period: m.Period, Height: m.Height, AppHash: m.AppHash, Index: index}

	case *logv1.SnapshotInstalled:
		s = chain.State{ChainID: m.ChainId, Period: m.Period, Height: m.Height, AppHash: m.AppHash, Index: index}

	case *logv1.Base:
		s = chain.State{ChainID: m.ChainId, Period: m.Period, Height: m.Height, AppHash: m.AppHash, Index: index}
	}

	return s, s.Started()
}
