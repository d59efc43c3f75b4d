package trouble

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/supervisor"
)

// Bounds from which on something is a trouble.
const (
	loopSpan   = time.Minute // within which
	loopLength = 3           // so many abnormal ends of one child are a loop

	almostFull = 0.85            // of a mailbox
	stuckAfter = 5 * time.Second // one message is in hand: CoppiceEngineStuck of docs/metrics.md

	slowSync = 100 * time.Millisecond // CoppiceSlowDisk of docs/metrics.md

	lowBytes, lowPart = 1 << 30, 10 // fewer bytes free, or on a small disk less than one part in lowPart

	lagHeights = 10 // CoppiceStreamLagGrows of docs/metrics.md

	hotSpan = 10 * time.Second // since a filter has lost events

	startTime = time.Minute // that a start may take without being a trouble
)

// crashes are the abnormal ends of the last minute, by the path of the child.
type crashes map[string]*crash

type crash struct {
	times []time.Time // oldest first, the newest mostTimes
	count int         // with those that times has forgotten
	first time.Time
	last  error
	lost  map[string]lost // transactions whose workers ended
}

// lost is a transaction that has ended its worker.
type lost struct {
	count int
	first time.Time
	err   error
}

// Bounds of what is kept.
const (
	mostPaths = 1000
	mostTimes = 16
	mostLost  = 16
)

func (c crashes) add(path string, at time.Time, err error) {
	x := c[path]
	if x == nil || at.Sub(x.times[len(x.times)-1]) > loopSpan {
		if x == nil && len(c) >= mostPaths {
			c.forget(at)
		}
		if x == nil && len(c) >= mostPaths {
			return // the first ones stand for all
		}
		x = &crash{first: at}
		c[path] = x
	}

	x.count++
	x.last = err
	x.times = append(x.times, at)
	if len(x.times) > mostTimes {
		x.times = slices.Delete(x.times, 0, 1)
	}

	var w *mempool.WorkerLostError
	if errors.As(err, &w) {
		id := w.ID.String()
		l, known := x.lost[id]
		if !known && len(x.lost) >= mostLost {
			return
		}
		if !known {
			l.first = at
		}
		if x.lost == nil {
			x.lost = map[string]lost{}
		}
		x.lost[id] = lost{l.count + 1, l.first, w.Err}
	}
}

// forget drops what is over.
func (c crashes) forget(now time.Time) {
	maps.DeleteFunc(c, func(_ string, x *crash) bool { return now.Sub(x.times[len(x.times)-1]) > loopSpan })
}

// recent returns how many of the ends were within the last minute.
func (x *crash) recent(now time.Time) (n int) {
	for _, t := range x.times {
		if now.Sub(t) <= loopSpan {
			n++
		}
	}
	return n
}

// loop is a child that crashes again and again, or that a transaction has ended more than once.
type loop struct {
	path  string
	count int
	loops bool
	first time.Time
	last  error
	lost  map[string]lost
}

func (w *Watcher) loops(now time.Time) (list []loop) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.crashes.forget(now)
	for _, path := range slices.Sorted(maps.Keys(w.crashes)) {
		x := w.crashes[path]
		loops := x.recent(now) >= loopLength
		if loops || len(x.lost) > 0 {
			list = append(list, loop{path, x.count, loops, x.first, x.last, maps.Clone(x.lost)})
		}
	}

	return list
}

func (w *Watcher) crashLoops(now time.Time) (list []Trouble) {
	for _, l := range w.loops(now) {
		for _, id := range slices.Sorted(maps.Keys(l.lost)) {
			if x := l.lost[id]; x.count > 1 {
				list = append(list, Trouble{Kind: Poisoned, Grave: true, Where: id, Page: ChainPage, Since: x.first,
					Text: fmt.Sprintf("transaction %s has ended its worker %d times, and each time the pool with "+
						"it: %v", id[:8], x.count, x.err),
					Advice: "its result must not depend on what a worker meets outside of the state: mend its " +
						"backend; the transaction stays, and is executed again"})
			}
		}

		if !l.loops {
			continue
		}
		used := ""
		up := above(l.path)
		if w.Place != nil {
			if t, err := w.Place(up); err == nil && t.Intensity.Period > 0 {
				used = fmt.Sprintf("; %s has used %d of %d restarts in %v, and gives up at one more than that",
					cmp.Or(up, t.ID), t.InWindow, t.Intensity.Max, t.Intensity.Period)
			}
		}
		list = append(list, Trouble{Kind: CrashLoop, Where: l.path, Page: TreePage, Since: l.first,
			Text: fmt.Sprintf("%s crashes again and again: %d times in %v, the last time by: %v", l.path, l.count,
				now.Sub(l.first).Round(time.Second), l.last),
			Advice: "read the reason and the stack of its last end" + used})
	}

	return list
}

// above returns the path of the supervisor of a child; "" is the root.
func above(path string) string { return path[:max(0, strings.LastIndexByte(path, '/'))] }

func (w *Watcher) findOrphans(now time.Time) (list []Trouble) {
	w.mu.Lock()
	defer w.mu.Unlock()

	for _, o := range w.orphans {
		list = append(list, Trouble{Kind: Orphan, Where: fmt.Sprintf("%s #%d", o.Path, o.Incarnation), Page: TreePage,
			Since: o.Since, Text: fmt.Sprintf("orphan: incarnation %d of %s was told to stop and still runs, for %v",
				o.Incarnation, o.Path, now.Sub(o.Since).Round(time.Second)),
			Advice: "its place shows where it hangs; it can write no more, and only its own end, or that of the " +
				"process, frees what it holds"})
	}

	return list
}

// advice says what to do about the states of the readiness that are troubles. A state that is not
// here is none.
var advice = map[consensus.Readiness]struct {
	page Page
	text string
}{
	consensus.Starting:           {TreePage, "the place that is named starts, and may replay its log"},
	consensus.Down:               {TreePage, "see why the place that is named ended; its supervisor starts it again"},
	consensus.ConsensusDown:      {ChainPage, "see the diagnostics; the node starts it again"},
	consensus.WaitingForSnapshot: {ChainPage, "let a peer offer a snapshot, or begin with the genesis"},
	consensus.WrongGenesis:       {ChainPage, "take the genesis of the chain that the peers have"},
	consensus.PrunedPeers:        {ChainPage, "begin with a snapshot of a peer, or find a peer that keeps all blocks"},
	consensus.CatchingUp:         {ChainPage, "wait; the height shows how fast it goes"},
	consensus.NoQuorum:           {ChainPage, "start the validators that are named, or mend the network between them"},
	consensus.Halted:             {ChainPage, "see the diagnostics; it does not go on by itself"},
	consensus.SigningRefused:     {ChainPage, "see why the key refuses; never copy a key to a second validator"},
	consensus.DiskFull:           {DiskPage, "make room on the disk"},
	consensus.Held:               {StreamsPage, "mend the sink, or exempt it: coppice streams exempt"},
	consensus.ClockAhead:         {ChainPage, "set the clock (NTP)"},
	consensus.ClockBehind:        {ChainPage, "set the clock (NTP)"},
	consensus.DoubleSign:         {ChainPage, "stop this validator, and find out where else its key signs"},
}

// condition returns what the readiness says.
func (w *Watcher) condition(now time.Time) (list []Trouble) {
	c := w.Condition()
	if a, ok := advice[c.State]; ok && !(c.State == consensus.Starting && now.Sub(c.Since) < startTime) {
		list = append(list, Trouble{Kind: Kind(c.State), Grave: true, Page: a.page, Since: c.Since,
			Text:   fmt.Sprintf("not ready, %s: %s", strings.ReplaceAll(string(c.State), "_", " "), c.Reason),
			Advice: a.text})
	}
	for _, x := range c.Warnings {
		a := advice[x.State]
		list = append(list, Trouble{Kind: Kind(x.State), Page: cmp.Or(a.page, ChainPage), Text: x.Reason,
			Advice: a.text})
	}

	if p := c.Process; p != nil && p.State != "running" && p.State != "starting" {
		list = append(list, Trouble{Kind: Process, Where: plan.PathConsensus, Page: ChainPage, Since: p.Since,
			Text:   fmt.Sprintf("the process of the consensus is %s: %s", p.State, p.Text),
			Advice: "the node starts it again; docs/manager.md says what each state means"})
	}
	if h := c.Hold; h != nil && h.Long {
		list = append(list, Trouble{Kind: "reset", Page: ChainPage, Since: h.Since,
			Text:   "a reset takes longer than it should: " + h.String(),
			Advice: "see docs/resets.md, and 'coppice reset status'"})
	}

	return list
}

func (w *Watcher) mailboxes(time.Time) (list []Trouble) {
	if w.Engines == nil {
		return nil
	}

	for _, e := range w.Engines() {
		hand := ""
		if e.InHand != "" {
			hand = fmt.Sprintf("; %s is in hand for %v", e.InHand, e.Handling.Round(time.Millisecond))
		}
		where := cmp.Or(e.Path, e.Name)

		if e.Cap > 0 && float64(e.Len) >= almostFull*float64(e.Cap) {
			list = append(list, Trouble{Kind: MailboxFull, Where: where, Page: TopPage,
				Text:   fmt.Sprintf("the mailbox of %s is full: %d of %d messages wait%s", e.Name, e.Len, e.Cap, hand),
				Advice: "see what it has in hand, and who sends; those who send wait or are refused"})
		}
		if e.InHand != "" && e.Handling >= stuckAfter {
			list = append(list, Trouble{Kind: Stuck, Where: where, Page: TopPage,
				Text:   fmt.Sprintf("%s is stuck with one message%s", e.Name, hand),
				Advice: "its place shows its stack; a kill starts it again"})
		}
	}

	return list
}

func (w *Watcher) disk(time.Time) (list []Trouble) {
	if w.Sync != nil {
		if mean, n := w.Sync(); n > 0 && mean >= slowSync {
			list = append(list, Trouble{Kind: SlowDisk, Page: DiskPage,
				Text: fmt.Sprintf("the disk is slow: a sync of the event log takes %v (mean of the last %d s with one)",
					mean.Round(time.Millisecond), n),
				Advice: "every acknowledgment waits for a sync: see what else writes to this disk, or take a " +
					"faster one"})
		}
	}

	if w.LogFailed != nil {
		if err := w.LogFailed(); err != nil {
			list = append(list, Trouble{Kind: LogFailed, Grave: true, Page: DiskPage,
				Text: fmt.Sprintf("the event log takes no more: %v", err), Advice: "the process ends; mend the disk"})
		}
	}

	if w.Disk != nil {
		if free, size, ok := w.Disk(); ok && free < min(lowBytes, size/lowPart) {
			list = append(list, Trouble{Kind: DiskLow, Page: DiskPage,
				Text: fmt.Sprintf("the disk is nearly full: %.0f MiB of %.0f MiB are free", float64(free)/(1<<20),
					float64(size)/(1<<20)),
				Advice: "make room: coppice prune drops history, docs/sizing.md says what takes how much"})
		}
	}

	return list
}

// waiting are the states of a stream that wait for an operator.
var waiting = []streams.State{streams.Failed, streams.FencedOff, streams.AheadOf, streams.InGap, streams.LostLog,
	streams.Detached, streams.Degraded}

func (w *Watcher) lags(time.Time) (list []Trouble) {
	if w.Streams == nil {
		return nil
	}

	for _, s := range w.Streams() {
		why := ""
		if s.Last != nil {
			why = fmt.Sprintf("; its last failure is of the class %s", s.Last.Class) // the text wants a token
		}

		switch {
		case slices.Contains(waiting, s.State):
			list = append(list, Trouble{Kind: StreamDown, Where: s.Name, Page: StreamsPage,
				Text:   fmt.Sprintf("the stream %s is %s and waits for an operator%s", s.Name, s.State, why),
				Advice: "coppice streams show " + s.Name + " says what it needs"})
		case s.State == streams.Paused, s.State == streams.Standby:
		case s.LagHeights > lagHeights || s.State == streams.Retrying:
			list = append(list, Trouble{Kind: Lagging, Where: s.Name, Page: StreamsPage,
				Text: fmt.Sprintf("the sink of the stream %s lags: it lacks %d blocks, %.0f s of block time (%s)%s",
					s.Name, s.LagHeights, s.LagSeconds, s.State, why),
				Advice: "see whether the sink answers, and how fast; the log is kept for it up to its cap"})
		}
		if s.AtRisk {
			list = append(list, Trouble{Kind: StreamDown, Where: s.Name, Page: StreamsPage,
				Text:   fmt.Sprintf("the stream %s has used half of its cap: at the whole of it, it is lost", s.Name),
				Advice: "let the sink catch up, or raise the cap"})
		}
	}

	return list
}

func (w *Watcher) filters(now time.Time) (list []Trouble) {
	if w.Filters == nil {
		return nil
	}

	stats := w.Filters()
	missed := make(map[string]uint64, len(stats.Agents)+1)
	for _, a := range append(stats.Agents, stats.Broker) {
		name := cmp.Or(a.Chain, "the broker of events")
		key := fmt.Sprintf("%d %s %s", stats.Incarnation, a.ID, a.Chain)
		missed[key] = a.Missed

		if a.Missed > w.missed[key] {
			w.hot[key] = now
		}
		full := w.Mailbox > 0 && float64(a.Waiting) >= almostFull*float64(w.Mailbox)
		if at, hot := w.hot[key]; !full && (!hot || now.Sub(at) > hotSpan) {
			continue
		}

		list = append(list, Trouble{Kind: HotFilter, Where: name, Page: EventsPage,
			Text: fmt.Sprintf("the filter %s does not keep up: %d events wait for it, %d were lost on their way to "+
				"its %d streams", name, a.Waiting, a.Missed, a.Subscribers),
			Advice: "let its clients ask for less, or with a cheaper filter; no record is lost, because streams " +
				"read the log"})
	}

	maps.DeleteFunc(w.hot, func(key string, _ time.Time) bool { _, there := missed[key]; return !there })
	w.missed = missed

	return list
}

// suspects returns the transactions that were executing when a process died.
func (w *Watcher) suspects(time.Time) (list []Trouble) {
	if w.Suspects == nil {
		return nil
	}

	for _, s := range w.Suspects() {
		list = append(list, Trouble{Kind: Poisoned, Where: s.ID, Page: ChainPage,
			Text: fmt.Sprintf("transaction %s was executing when the process died, %d times before its place and %d "+
				"times at it", s.ID[:min(8, len(s.ID))], s.Eager, s.Placed),
			Advice: "mend its backend; at a second death at its place the node does not start until then"})
	}

	return list
}

var _ supervisor.Observer = (*Watcher)(nil)
