package supervisor

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// labelIncarnation and labelChild are the profiler labels of every goroutine of an incarnation.
// Goroutines inherit labels, so those that a child starts with a plain go statement are found too.
const (
	labelIncarnation = "supervisor.incarnation"
	labelChild       = "supervisor.child"
	// labelRoot has the number of the root's own incarnation. All goroutines of a tree carry it.
	labelRoot = "supervisor.root"
)

// setLabels makes the labels of the incarnation, in the order of their names: the profiler would
// sort them otherwise.
func (inc *incarnation) setLabels() {
	id := strconv.FormatUint(inc.id, 10)
	var room [8]string
	pairs, above := room[:0], *inc.above

	for len(above) > 0 && above[0] < labelChild {
		pairs, above = append(pairs, above[0], above[1]), above[2:]
	}
	pairs = append(append(pairs, labelChild, inc.path, labelIncarnation, id), above...)
	if inc.owner == nil && inc.parent == nil {
		pairs = append(pairs, labelRoot, id) // the last of two with one name is the one that counts
	}

	inc.labels = pprof.WithLabels(context.Background(), pprof.Labels(pairs...))
}

// goroutinesOf finds the goroutines of the incarnations with these numbers.
func goroutinesOf(ids ...uint64) map[uint64]Orphan { return labelled(labelIncarnation, nil, ids...) }

// labelled finds the goroutines whose label has one of the given numbers and whose stack counts
// (nil counts all). For each number it returns how many there are, and their stacks as the profiler
// prints them.
func labelled(label string, counts func(stack string) bool, ids ...uint64) map[uint64]Orphan {
	var buf bytes.Buffer
	found := make(map[uint64]Orphan, len(ids))
	if err := pprof.Lookup("goroutine").WriteTo(&buf, 1); err != nil {
		return found // a bytes.Buffer does not fail
	}

	wanted := make(map[string]uint64, len(ids))
	for _, id := range ids {
		wanted[strconv.Quote(label)+":"+strconv.Quote(strconv.FormatUint(id, 10))] = id
	}

	for block := range strings.SplitSeq(buf.String(), "\n\n") {
		_, labels, ok := strings.Cut(block, "# labels: {")
		if !ok {
			continue
		}

		labels, stack, _ := strings.Cut(labels, "\n")
		if counts != nil && !counts(stack) {
			continue
		}

		for pair := range strings.SplitSeq(strings.TrimSuffix(labels, "}"), ", ") {
			id, ok := wanted[pair]
			if !ok {
				continue
			}

			n, _ := strconv.Atoi(strings.TrimSpace(block[:strings.Index(block, "@")]))
			o := found[id]
			o.Goroutines += n
			o.Stack += fmt.Sprintf("%d goroutine(s):\n%s\n", n, stack)
			found[id] = o
		}
	}

	return found
}

// describe returns the orphan with the goroutines that were found.
func (inc *incarnation) describe(found map[uint64]Orphan) Orphan {
	o := found[inc.id]
	inc.mu.Lock()
	defer inc.mu.Unlock()
	o.Path, o.Incarnation, o.Since, o.Brutal = inc.path, inc.id, inc.closing.orphanedAt, inc.brutal
	return o
}

// expiries collects the incarnations of one tree whose shutdown time is over. Reading the goroutine
// profile takes longer the more goroutines there are. So the incarnations that expire during one
// reading share the next.
type expiries struct {
	mu      sync.Mutex
	waiting []*incarnation
	busy    bool // look is being called
}

// add passes the incarnations to look. The first caller calls look also for the incarnations that
// others add meanwhile.
func (x *expiries) add(look func([]*incarnation), incs ...*incarnation) {
	x.mu.Lock()
	defer x.mu.Unlock()

	x.waiting = append(x.waiting, incs...)
	if x.busy {
		return
	}

	x.busy = true

	for len(x.waiting) > 0 {
		next := x.waiting
		x.waiting = nil
		x.mu.Unlock()
		look(next)
		x.mu.Lock()
	}

	x.busy = false
}

// expireAll declares the incarnations orphans, with one reading of the goroutine profile for all.
func expireAll(incs []*incarnation) {
	incs = slices.DeleteFunc(incs, (*incarnation).over)
	if len(incs) == 0 {
		return
	}

	ids := make([]uint64, len(incs))
	for i, inc := range incs {
		ids[i] = inc.id
	}

	stacks := goroutinesOf(ids...)
	for _, inc := range incs {
		inc.orphaned(stacks)
	}
}

// over reports whether the incarnation has ended, or has already been declared an orphan.
func (inc *incarnation) over() bool {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	return inc.ended || inc.concluded || inc.isOrphan
}

func (inc *incarnation) orphaned(stacks map[uint64]Orphan) {
	inc.mu.Lock()
	if inc.ended || inc.concluded || inc.isOrphan {
		inc.mu.Unlock()
		return
	}

	inc.isOrphan, inc.closingLocked().orphanedAt = true, time.Now()
	inc.hub.addOrphan(inc)
	policy := inc.policy
	inc.mu.Unlock()

	o := inc.describe(stacks)
	inc.emit(func(h Header) Event { return ChildOrphaned{Header: h, Orphan: o, Policy: policy} })
	if policy == Wait {
		return
	}

	inc.conclude(true)
}

// abandon concludes an incarnation whose shutdown is brutal, without waiting for its goroutines.
func (inc *incarnation) abandon() {
	inc.mu.Lock()
	if inc.ended || inc.concluded {
		inc.mu.Unlock()
		return
	}

	inc.isOrphan, inc.brutal, inc.closingLocked().orphanedAt = true, true, time.Now()
	inc.hub.addOrphan(inc)
	inc.mu.Unlock()

	inc.conclude(false)
}
