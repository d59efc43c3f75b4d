package rig

import (
	"errors"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Committed calls each for every committed block of a stopped log, and returns the height of the
// last one.
func Committed(dir string, each func(*logv1.BlockCommitted) error) (last uint64, err error) {
	l, err := eventlog.OpenReadOnly(dir, eventlog.Options{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()

	for e, err := range chain.Records(l.Cursor, l.First(), chain.End, chain.KindBlockCommitted) {
		if err != nil {
			return last, err
		}
		m, err := chain.DecodeRecord(e)
		if err != nil {
			return last, err
		}

		b := m.(*logv1.BlockCommitted)
		last = b.Height

		if err := each(b); err != nil {
			return last, err
		}
	}

	return last, nil
}
