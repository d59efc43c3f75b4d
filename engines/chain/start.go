package chain

import (
	"errors"

	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// StartedBackend is a Backend that depends on how the chain has begun, in epoch 0: on what its
// consensus said then, which genesis.json does not have.
type StartedBackend interface {
	Backend

	// ForStart returns the backend of a chain that rec has begun.
	ForStart(rec *logv1.ChainStarted) Backend
}

// BindStart replaces each StartedBackend by the one of the chain that rec has begun. A nil rec
// changes nothing.
func BindStart(rec *logv1.ChainStarted, backends map[string]Backend) {
	if rec == nil {
		return
	}
	for name, b := range backends {
		if started, ok := b.(StartedBackend); ok {
			backends[name] = started.ForStart(rec)
		}
	}
}

// FirstStart returns the record that has begun epoch 0, from the beginning of a log with the given
// first and last record. It is nil if the chain has not begun, or if the log lacks its beginning.
func FirstStart(open func(from uint64) (*eventlog.Cursor, error), first, last uint64) (*logv1.ChainStarted, error) {
	if first != 1 {
		return nil, nil
	}

	for e, err := range Records(open, first, last) {
		if lost := new(eventlog.CorruptError); errors.As(err, &lost) && lost.Gap {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}

		switch e.Kind {
		case KindChainStarted:
			m, err := DecodeRecord(e)
			if err != nil {
				return nil, err
			}
			rec := m.(*logv1.ChainStarted)
			if rec.Period != 0 {
				return nil, nil
			}
			return rec, nil
		case KindOrderDecided, KindBlockCommitted, KindSnapshotInstalled, KindBase:
			return nil, nil // a block, or a state, of a chain whose beginning is not here
		}
	}

	return nil, nil
}
