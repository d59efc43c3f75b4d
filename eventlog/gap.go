package eventlog

import (
	"fmt"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// Gap is a run of lost records. A salvaged log holds each gap that was found, in its place, so that
// it never passes for a whole log: reading stops at the gaps, and Verify reports them.
type Gap struct {
	First  uint64 // index of the first lost record
	Last   uint64 // index of the last one; First-1 if their number is unknown
	File   string // where the gap was noticed
	Offset int64  // in File
	Reason string
}

func (g Gap) String() string {
	if g.Last < g.First {
		return fmt.Sprintf("an unknown number of records from %d on: %s", g.First, g.Reason)
	}
	return fmt.Sprintf("records %d to %d: %s", g.First, g.Last, g.Reason)
}

func (g Gap) count() uint64 { return g.Last + 1 - g.First }

func (g Gap) damage() *CorruptError {
	return &CorruptError{File: g.File, Offset: g.Offset, Index: g.First, Gap: true, Lost: g.count(),
		Reason: "lost before this log was made: " + g.String()}
}

// gapOf returns the gap that a frame at an offset describes.
func gapOf(f segment.Frame, at int64) Gap {
	return Gap{First: f.First, Last: f.Next() - 1, Offset: at, Reason: string(f.Payload)}
}
