// Package history says to which history of the event log a cursor belongs. Records keep their
// indexes when a log is restored, salvaged or copied, and two logs that once were one may have
// different records under one index. A reader that continued with an index alone would skip
// records and never know.
//
// The history of a log is a sequence of eras. Each start of a node begins an era with a random id,
// and durably notes the record after which it begins. A cursor is the index of a record, with the
// era in which that record was written. If a log has the era, and the era reaches that far in it,
// the log has exactly the records that the reader has seen. If the era ends earlier in it, the two
// histories are the same up to that end. (Replicated logs use the same idea under the names term,
// or leader epoch.)
//
// The eras lie in data/history.json, beside the log, so that a copy of a home has them. A backup
// carries them too.
package history

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// Era is a part of a log that was written between two starts of a node.
type Era struct {
	ID    string `json:"id"`    // random, 16 hexadecimal digits
	After uint64 `json:"after"` // its records are those after this index, up to the next era
}

// History is the sequence of the eras of a log, the oldest first. It is immutable.
type History struct {
	LogID string `json:"log_id"` // of the log, hexadecimal
	Eras  []Era  `json:"eras"`
}

// ErrForeign means that a cursor is of another history than the log.
var ErrForeign = errors.New("the cursor is of another history than the log")

// ForeignError says where a cursor and a log differ. errors.Is(err, ErrForeign) holds.
type ForeignError struct {
	History string // of the cursor
	Index   uint64 // of the cursor

	Known  bool   // the log has the history of the cursor, up to the record Common
	Common uint64 // the last record that is the same for both

	Now   string // the history in which the log writes now
	Since uint64 // the first record of Now
	First uint64 // the oldest record that the log has
}

func (e *ForeignError) Error() string {
	was := fmt.Sprintf("%v: the cursor is record %d of history %s", ErrForeign, e.Index, e.History)
	now := fmt.Sprintf("the log's is %s since record %d", e.Now, e.Since)
	if e.Known {
		text := fmt.Sprintf("%s, but in this log that history ends at record %d; %s: the log was restored "+
			"or replaced. "+
			"Records up to %d are the same: keep what was made from them, drop what was made from later ones", was,
			e.Common, now, e.Common)
		if e.Common+1 < e.First {
			return fmt.Sprintf("%s. The log has no record from %d to %d any more: take what they did from the "+
				"state, and start again from %d", text, e.Common+1, e.First-1, e.First-1)
		}
		return fmt.Sprintf("%s, and start again from %s:%d", text, e.History, e.Common)
	}
	if e.First > 1 {
		return fmt.Sprintf("%s, which this log does not have; %s: the log was restored without its older records, was "+
			"replaced, or is another node's. Its oldest record is %d: nothing says which of the earlier ones were the "+
			"same. Keep what was made from them only if the log was restored from a backup of this node, and start "+
			"again from %d; otherwise begin anew from the state", was, now, e.First, e.First-1)
	}
	return fmt.Sprintf("%s, which this log does not have; %s: the log was replaced, or is another node's. Drop what "+
		"was made from the other log, and start again from 0", was, now)
}

// Is reports whether target is ErrForeign, the class of every ForeignError.
func (e *ForeignError) Is(target error) bool { return target == ErrForeign }

// Begin returns the history of a log that is opened for writing: h with a new era after durable,
// the log's last record. first is the log's first record. What h says of another log is forgotten,
// and so are eras of which the log has no record, whether they wrote none, lost them, or were
// truncated.
func (h *History) Begin(logID [16]byte, first, durable uint64) *History {
	next := h.upTo(logID, durable)
	for len(next.Eras) > 1 && next.Eras[1].After < first {
		next.Eras = next.Eras[1:]
	}

	after := durable
	if len(next.Eras) == 0 {
		after = 0 // nothing is known of the records so far: they count to this era
	}
	next.Eras = append(next.Eras, Era{newID(), after})

	return next
}

// Restored returns the history of a new log that has the records of h's log up to last.
func (h *History) Restored(logID [16]byte, last uint64) *History {
	was := *h
	was.LogID = hex.EncodeToString(logID[:])
	return was.upTo(logID, last)
}

// upTo returns a copy of h without the eras that begin at or after the end of the log. If h is of
// another log, or nil, the copy has no eras.
func (h *History) upTo(logID [16]byte, last uint64) *History {
	next := &History{LogID: hex.EncodeToString(logID[:])}
	if h != nil && h.LogID == next.LogID {
		next.Eras = slices.Clone(h.Eras)
	}
	for n := len(next.Eras); n > 0 && next.Eras[n-1].After >= last; n-- {
		next.Eras = next.Eras[:n-1]
	}
	return next
}

func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Now returns the id of the era in which the log writes. A nil History gives "".
func (h *History) Now() string {
	if h == nil || len(h.Eras) == 0 {
		return ""
	}
	return h.Eras[len(h.Eras)-1].ID
}

// At returns the id of the era in which a record was written. A nil History gives "".
func (h *History) At(index uint64) string {
	if h == nil || len(h.Eras) == 0 {
		return ""
	}

	for _, e := range slices.Backward(h.Eras) {
		if e.After < index {
			return e.ID
		}
	}

	return h.Eras[0].ID
}

// Check returns a *ForeignError if the record at index of the era id is not in the log. An empty id
// is not checked. first is the oldest record that the log has.
func (h *History) Check(id string, index, first uint64) error {
	if h == nil || len(h.Eras) == 0 || id == "" {
		return nil
	}

	newest := h.Eras[len(h.Eras)-1]
	foreign := &ForeignError{History: id, Index: index, Now: newest.ID, Since: newest.After + 1, First: first}

	i := slices.IndexFunc(h.Eras, func(e Era) bool { return e.ID == id })
	switch {
	case i < 0:
		return foreign
	case i+1 < len(h.Eras) && index > h.Eras[i+1].After:
		foreign.Known, foreign.Common = true, h.Eras[i+1].After
		return foreign
	}

	return nil
}
