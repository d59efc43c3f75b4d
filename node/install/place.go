package install

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
)

// PlaceOf returns what the installation of a snapshot needs to know: the log's id and the
// snapshot's index in the log. The snapshot may have been taken with this log, or it may be the
// snapshot of an older log from which this log was begun (see BaseOf), or a record of this log may
// have installed it. For any other snapshot, PlaceOf returns storage.ErrOtherLog.
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
