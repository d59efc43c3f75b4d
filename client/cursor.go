package client

import (
	"fmt"
	"strconv"
	"strings"
)

// Cursor is a position in the log of a node: all records up to Index have been read. History names
// the part of the log's history in which the record at Index was written. With it, a node notices
// that its log was restored or replaced since, and refuses the cursor instead of skipping records:
// the error has the code failed_precondition, and says up to which record both histories are the
// same. A reader stores both.
//
// The zero Cursor begins with the oldest record that is kept.
type Cursor struct {
	History string // empty: the cursor is taken for one of the node's log
	Index   uint64
}

// String returns the cursor as "history:index", or "index" without a history. ParseCursor reads it.
func (c Cursor) String() string {
	if c.History == "" {
		return strconv.FormatUint(c.Index, 10)
	}
	return fmt.Sprintf("%s:%d", c.History, c.Index)
}

// ParseCursor parses the text of a cursor.
func ParseCursor(s string) (Cursor, error) {
	history, index, ok := strings.Cut(s, ":")
	if !ok {
		history, index = "", s
	}
	n, err := strconv.ParseUint(index, 10, 64)
	if err != nil || ok && history == "" {
		return Cursor{}, fmt.Errorf("%q is no cursor, want an index, or history:index", s)
	}

	return Cursor{history, n}, nil
}
