package chain

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/coppice-go/coppice/eventlog"
)

// End is the value of to with which Records continues to the newest durable record.
const End = math.MaxUint64

// Records yields the durable records of a log from index from through index to, in order, and of
// the given kinds only (of all kinds if none is given). open is the Cursor method of an open log.
// An entry's Data is valid until the loop's next step; a message that DecodeRecord makes of it
// shares no memory with it.
//
// An error comes with an entry that holds only the index of the record that could not be read. If
// the log has a gap, because records were lost, the error is a *eventlog.CorruptError with Gap set;
// if the loop continues, Records yields the records behind the gap. Any other error ends the
// sequence. If the log ends before to, the error is eventlog.ErrNotFound, unless to is End. Records
// never waits.
func Records(open func(from uint64) (*eventlog.Cursor, error), from, to uint64,
	kinds ...eventlog.Kind) iter.Seq2[eventlog.Entry, error] {
	return func(yield func(eventlog.Entry, error) bool) {
		if from > to {
			return
		}
		cur, err := open(from)
		if err != nil {
			yield(eventlog.Entry{Index: from}, err)
			return
		}
		defer cur.Close()

		for next := from; next <= to; {
			e, ok, err := cur.TryNext()
			if err == nil && !ok && to != End {
				err = fmt.Errorf("%w: %d, the log ends before it", eventlog.ErrNotFound, next)
			}

			lost := new(eventlog.CorruptError)
			switch {
			case errors.As(err, &lost) && lost.Gap:
				if lost.Index <= to && yield(eventlog.Entry{Index: lost.Index}, err) {
					cur.Close()
					Records(open, lost.Index+lost.Lost, to, kinds...)(yield)
				}
				return
			case err != nil:
				yield(eventlog.Entry{Index: next}, err)
				return
			case !ok:
				return
			}

			next = e.Index + 1
			if wanted := len(kinds) == 0 || slices.Contains(kinds, e.Kind); wanted && !yield(e, nil) {
				return
			}
		}
	}
}
