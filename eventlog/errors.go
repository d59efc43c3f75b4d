package eventlog

import (
	"errors"
	"fmt"
)

var (
	// ErrFailed is the sticky state after a failed write or sync. The returned error wraps the
	// cause too, so errors.Is(err, syscall.ENOSPC) reports a full disk. A failed log must be closed
	// and opened again, best by a new process.
	ErrFailed = errors.New("event log failed")

	// ErrClosed is returned by every call that needs an open log once Close has begun.
	ErrClosed = errors.New("event log is closed")

	// ErrLocked means that another opener, in this process or another, holds the directory.
	ErrLocked = errors.New("event log directory is in use")

	// ErrCorrupt is the class of every [CorruptError].
	ErrCorrupt = errors.New("event log is damaged")

	// ErrTruncated means that the requested index lies before the first record that is kept.
	ErrTruncated = errors.New("index was truncated from the event log")

	// ErrNotFound means that the requested index lies past the last durable record.
	ErrNotFound = errors.New("index is past the durable end of the event log")

	// ErrTooLarge means that an append exceeds Options.MaxRecord. Nothing was appended, and the log
	// goes on.
	ErrTooLarge = errors.New("append is larger than the event log allows")

	// ErrVersion means that a segment was written by a newer format. Nothing was changed.
	ErrVersion = errors.New("event log has a newer format version")

	// ErrReadOnly is returned by the writing methods of a log from OpenReadOnly.
	ErrReadOnly = errors.New("event log is open read-only")
)

// CorruptError says where a log is damaged and how the damage was noticed. errors.Is(err,
// ErrCorrupt) holds.
type CorruptError struct {
	File   string // path of the segment
	Offset int64  // byte offset in File of the frame or header that is bad
	Index  uint64 // index of the first record that cannot be read; 0 if unknown
	Gap    bool   // no bytes are bad here: a salvage recorded that records were lost
	Lost   uint64 // for a Gap: the number of lost records from Index on; 0 if unknown
	Reason string // what was expected and what was found
}

func (e *CorruptError) Error() string {
	if e.Index != 0 {
		return fmt.Sprintf("%v: %s at offset %d (record %d and after): %s", ErrCorrupt, e.File, e.Offset,
			e.Index, e.Reason)
	}
	return fmt.Sprintf("%v: %s at offset %d: %s", ErrCorrupt, e.File, e.Offset, e.Reason)
}

// Is reports whether target is ErrCorrupt, the class of every CorruptError.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }
