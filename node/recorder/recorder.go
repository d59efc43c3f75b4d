// Package recorder keeps the figures of a node's last hour, one value a second, so that a chart has
// its past when somebody opens it. It reads counters only: it sends no message to an engine, and
// waits for none.
package recorder

import (
	"cmp"
	"context"
	"math"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/node/api"
)

// Span is the number of values that a series keeps, and Every the time between two of them.
const (
	Span  = 3600
	Every = time.Second

	slots = Span + 1 // one is being written

	// window is the number of values over which the rates of engines are computed.
	window = 5

	// mostEngines bounds the engines that have series of their own, three each.
	mostEngines = 16
	mostSeries  = 10 + 3*mostEngines
)

// Recorder keeps the figures. Its methods are safe for concurrent use, and none waits.
type Recorder struct {
	engines func() []engines.Stat

	txs, blocks     atomic.Int64
	syncs, syncTime atomic.Int64 // the time in nanoseconds
	syncMost        atomic.Int64 // the longest sync, in nanoseconds

	mu     sync.Mutex
	first  time.Time // of the oldest value that is kept
	count  int       // of values that are kept
	at     int       // where the next value goes
	series map[string]*series
	free   []series        // taken by those that come; made at once, so that the heap does not grow
	named  map[string]bool // engines that have series
	past   []reading       // the newest window+1 readings of the engines, oldest first
	cpu    time.Duration
}

type series struct {
	unit   string
	values [slots]float32
}

// reading is what the engines had handled at a moment.
type reading struct {
	at   time.Time
	of   map[string]engines.Stat
	last counts
}

type counts struct{ txs, blocks, syncs, syncTime int64 }

// New returns a Recorder that reads the engines with list.
func New(list func() []engines.Stat) *Recorder {
	return &Recorder{engines: list, series: map[string]*series{}, free: make([]series, mostSeries),
		named: map[string]bool{}, cpu: processTime()}
}

// Committed notes that a block was committed.
func (r *Recorder) Committed(txs int) {
	r.txs.Add(int64(txs))
	r.blocks.Add(1)
}

// Synced notes a sync of the event log.
func (r *Recorder) Synced(took time.Duration) {
	r.syncs.Add(1)
	r.syncTime.Add(int64(took))
	for {
		most := r.syncMost.Load()
		if int64(took) <= most || r.syncMost.CompareAndSwap(most, int64(took)) {
			return
		}
	}
}

// Run reads the figures each second until ctx ends.
func (r *Recorder) Run(ctx context.Context) {
	t := time.NewTicker(Every)
	defer t.Stop()

	for {
		select {
		case now := <-t.C:
			r.Read(now)
		case <-ctx.Done():
			return
		}
	}
}

// Read adds one value to each series.
func (r *Recorder) Read(now time.Time) {
	stats := r.engines()
	memory := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	metrics.Read(memory)
	cpu := processTime()

	r.mu.Lock()
	defer r.mu.Unlock()

	next := reading{at: now, of: make(map[string]engines.Stat, len(stats)),
		last: counts{r.txs.Load(), r.blocks.Load(), r.syncs.Load(), r.syncTime.Load()}}
	for _, s := range stats {
		next.of[s.Name] = s
	}

	if len(r.past) > 0 {
		r.add(next, cpu, memory)
	}

	r.cpu = cpu
	r.past = append(r.past, next)
	if len(r.past) > window+1 {
		r.past = slices.Delete(r.past, 0, 1)
	}
}

// add writes one value of each series. r.mu is held.
func (r *Recorder) add(next reading, cpu time.Duration, memory []metrics.Sample) {
	before := r.past[len(r.past)-1]
	took := max(next.at.Sub(before.at).Seconds(), 1e-3)
	per := func(now, then int64) float64 { return float64(now-then) / took }
	now, then := next.last, before.last

	r.put("txs", "1/s", per(now.txs, then.txs))
	r.put("blocks", "1/s", per(now.blocks, then.blocks))
	r.put("syncs", "1/s", per(now.syncs, then.syncs))
	mean := 0.0
	if n := now.syncs - then.syncs; n > 0 {
		mean = float64(now.syncTime-then.syncTime) / float64(n) / 1e6
	}
	r.put("sync mean", "ms", mean)
	r.put("sync most", "ms", float64(r.syncMost.Swap(0))/1e6)
	r.put("cpu", "%", 100*(cpu-r.cpu).Seconds()/took)
	r.put("heap", "MiB", float64(memory[0].Value.Uint64())/(1<<20))
	r.put("goroutines", "", float64(memory[1].Value.Uint64()))

	most, oldest := 0, time.Duration(0)
	names := make([]string, 0, len(next.of))
	for name, s := range next.of {
		most, oldest = max(most, s.Len), max(oldest, s.Oldest)
		names = append(names, name)
	}
	r.put("mailbox most", "messages", float64(most))
	r.put("oldest message", "ms", float64(oldest.Milliseconds()))

	slices.Sort(names)
	for _, name := range names {
		// The first that were there keep their series, also while they are down: else each that
		// is down would make room for another one, and all would have series in the end.
		if !r.named[name] && len(r.named) >= mostEngines {
			continue
		}
		r.named[name] = true
		s := next.of[name]
		rate, busy := rates(before.of[name], s, took)
		r.put("mailbox "+name, "messages", float64(s.Len))
		r.put("rate "+name, "1/s", rate)
		r.put("busy "+name, "%", 100*busy)
	}

	if r.count == 0 {
		r.first = next.at
	}
	if r.count < Span {
		r.count++
	} else {
		r.first = r.first.Add(Every)
	}

	r.at = (r.at + 1) % slots
	for _, s := range r.series {
		s.values[r.at] = float32(math.NaN()) // until it is written: an engine that is gone has no value
	}
}

// put writes the present value of a series. r.mu is held.
func (r *Recorder) put(name, unit string, v float64) {
	s := r.series[name]
	if s == nil {
		if len(r.free) == 0 {
			return
		}
		s, r.free = &r.free[0], r.free[1:]
		s.unit = unit
		for i := range s.values {
			s.values[i] = float32(math.NaN())
		}
		r.series[name] = s
	}
	s.values[r.at] = float32(v)
}

// rates returns the messages a second and the share of the time in handlers between two looks at an
// engine. An incarnation that is new since counts from its beginning.
func rates(then, now engines.Stat, seconds float64) (rate, busy float64) {
	if then.Incarnation != now.Incarnation {
		then = engines.Stat{}
	}
	rate = float64(now.Handled-min(then.Handled, now.Handled)) / seconds
	busy = min(1, max(0, (now.Busy-then.Busy).Seconds()/seconds))
	return rate, busy
}

// Engines returns what the engines are doing now, with their figures of the last seconds.
func (r *Recorder) Engines() []api.EngineStat {
	stats := r.engines()
	now := time.Now()
	out := make([]api.EngineStat, len(stats))

	r.mu.Lock()
	defer r.mu.Unlock()

	var then reading
	if len(r.past) > 0 {
		then = r.past[0]
	}
	for i, s := range stats {
		out[i].Stat = s
		if !then.at.IsZero() {
			out[i].Rate, out[i].BusyShare = rates(then.of[s.Name], s, max(now.Sub(then.at).Seconds(), 1e-3))
		}
	}

	return out
}

// Series is the past of one figure.
type Series struct {
	Name, Unit string
	Values     []float32 // one for each second, oldest first; NaN where there is none
}

// Past returns the newest values, at most last of them, of the series with these names (of all if
// there are none), and the time of the first value.
func (r *Recorder) Past(last int, names ...string) (first time.Time, out []Series) {
	r.mu.Lock()
	defer r.mu.Unlock()

	n := max(0, min(last, r.count))
	first = r.first.Add(time.Duration(r.count-n) * Every)

	for name, s := range r.series {
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		values := make([]float32, n)
		for i := range values {
			values[i] = s.values[(r.at-n+i+slots)%slots]
		}
		out = append(out, Series{name, s.unit, values})
	}
	slices.SortFunc(out, func(a, b Series) int { return cmp.Compare(a.Name, b.Name) })

	return first, out
}

// processTime returns the time that the processors have spent on this process.
func processTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
