package install

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
)

// PlaceOf returns the place of a snapshot in a log, as its installation needs it. The snapshot may
// be of this log, of the log that this one was begun from (see BaseOf), or one that a record of
// this log installed. Any other is storage.ErrOtherLog.
func PlaceOf(l *eventlog.Log, m snapshots.Manifest) (in snapshots.Installing, err error) {
	in = snapshots.Installing{LogID: l.ID(), Index: m.Index}
	id := l.ID()
	if bytes.Equal(m.LogID, id[:]) {
		return in, nil
	}
	base, err := BaseOf(l)
	if err != nil {
		return in, err
	}
	if base != nil && bytes.Equal(base.OriginLogId, m.LogID) && base.OriginIndex == m.Index {
		return in, nil // this log continues the numbers of the log before it
	}

	at, err := installedAt(l, m)
	if err != nil {
		return in, err
	}

	if at == 0 {
		return in, fmt.Errorf("%w: snapshot %s is of log %s, this is log %s, in which no record installed that "+
			"snapshot", storage.ErrOtherLog, m.ID, m.LogID, hex.EncodeToString(id[:]))
	}

	in.Index = at
	return in, nil
}
