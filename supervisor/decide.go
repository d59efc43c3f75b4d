package supervisor

import (
	"math"
	"slices"
	"time"
)

// The functions of this file only decide: they use no clock, no lock and no goroutine. The loops
// execute what they return.

// window holds the restart attempts of one supervisor that are within the period (OTP rules 39 to
// 44). OTP counts whole seconds. Here the window is exact: an attempt counts while now - then <=
// period on the monotonic clock.
type window struct{ at []time.Time }

// add enters an attempt. It returns how many attempts are in the window, and whether the limit
// allows them.
func (w *window) add(now time.Time, limit Intensity) (n int, ok bool) {
	w.trim(now, limit.Period)
	w.at = append(w.at, now)
	return len(w.at), len(w.at) <= limit.Max
}

func (w *window) trim(now time.Time, period time.Duration) {
	old := 0
	for old < len(w.at) && now.Sub(w.at[old]) > period {
		old++
	}
	w.at = slices.Delete(w.at, 0, old)
}

func (w *window) count(now time.Time, period time.Duration) int {
	n := 0
	for _, t := range w.at {
		if now.Sub(t) <= period {
			n++
		}
	}
	return n
}

// verdict is the decision about a child that ended by itself.
type verdict uint8

const (
	keep    verdict = iota // the child stays specified, and is not started again
	forget                 // the specification is removed
	restart                // the child gets another incarnation
	endTree                // the supervisor ends, and returns the error upward
)

// judge decides on an exit by OTP rules 36 and 37, and by suture's sentinels ErrDoNotRestart and
// ErrTerminateSupervisorTree. reported is whether OTP would report the exit.
func judge(r Restart, e *Exit) (v verdict, reported bool) {
	switch {
	case e.terminate:
		return endTree, true

	case e.remove:
		return forget, r == Permanent

	case r == Permanent:
		return restart, true

	case r == Transient && e.Class == Abnormal:
		return restart, true

	case r == Transient:
		return keep, false

	default:
		return forget, e.Class == Abnormal
	}
}

// quietStop reports whether an end that the supervisor asked for needs no report (OTP rule 58). In
// Go, a service obeys by returning nil. So a nil that a service returns after it was told to end is
// quiet for a permanent child too, and a nil that it returned before is not. With the shutdown time
// Brutal, an end that the stop or Kill caused is quiet, and a permanent child that had already
// ended in another way is reported.
func quietStop(r Restart, shutdown time.Duration, e *Exit) bool {
	switch {
	case e.Orphaned:
		return false

	case shutdown == Brutal && (e.Stopped || e.Killed):
		return true

	case e.Class == Shutdown:
		return r != Permanent || shutdown != Brutal

	case e.Class == Normal:
		return r != Permanent || e.Stopped

	default:
		return false
	}
}

// member is the part of a child's state that a strategy needs.
type member struct {
	restart     Restart
	significant bool
	alive       bool // running or restarting
}

// group returns the children that a restart of child i concerns, as a range of the start order (OTP
// rules 48 to 50).
func group(s Strategy, n, i int) (from, to int) {
	switch s {
	case OneForAll:
		return 0, n
	case RestForOne:
		return i, n
	default:
		return i, i + 1
	}
}

// plan is a restart: stop the children in the given order, forget some, then start others in the
// given order. The numbers are indexes of the start order.
type plan struct{ stop, forget, start []int }

// planRestart plans a restart by OTP rules 48 to 51. The temporary children of the group are
// stopped and forgotten. All other children of the group are started, including those that had
// finished, had been stopped, or had returned ErrIgnore.
func planRestart(s Strategy, members []member, failed int) plan {
	from, to := group(s, len(members), failed)
	var p plan

	for i := to - 1; i >= from; i-- {
		if i != failed {
			p.stop = append(p.stop, i)
		}
	}

	for i := from; i < to; i++ {
		if i != failed && members[i].restart == Temporary {
			p.forget = append(p.forget, i)
		} else {
			p.start = append(p.start, i)
		}
	}

	return p
}

// autoShutdown reports whether the supervisor must stop by OTP rule 66, after a significant child
// has ended by itself for good. rest is the other children.
func autoShutdown(mode AutoShutdown, rest []member) bool {
	switch mode {
	case AnySignificant:
		return true
	case AllSignificant:
		return !slices.ContainsFunc(rest, func(m member) bool { return m.significant && m.alive })
	default:
		return false
	}
}

// delay returns the wait before the n-th attempt in a row, counted from 1. random is in [0, 1).
func (b Backoff) delay(n int, random float64) time.Duration {
	if b.Min <= 0 {
		return 0 // also for a very large n: 0 times infinity would not be a number
	}
	factor, top := b.Factor, float64(b.longest())
	if factor == 0 {
		factor = 2
	}
	d := min(float64(b.Min)*math.Pow(factor, float64(n-1)), top)
	if d *= 1 + b.Jitter*random; d >= math.MaxInt64 {
		return math.MaxInt64
	}

	return time.Duration(d)
}

// longest returns the longest delay without its jitter. When an incarnation has lived longer than
// that, the attempts in a row are counted anew.
func (b Backoff) longest() time.Duration { return max(b.Min, b.Max) }
