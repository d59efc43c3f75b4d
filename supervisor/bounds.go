package supervisor

import (
	"sync"
	"time"
)

// bounds are the time limits of the starts and ends of one tree. Almost every limit is withdrawn
// long before it is over, so all limits of one length share a list, in the order in which they end,
// and a timer that is not stopped: it is set again when it fires. To begin or withdraw a limit
// costs a lock. Its lock is inside of an incarnation's: no other is taken while it is held.
type bounds struct {
	mu    sync.Mutex
	begun time.Time // due times are counted from here
	of    map[time.Duration]*boundList
}

// boundList has the limits of one length, the one that ends first in front.
type boundList struct {
	length      time.Duration
	first, last *bound
	timer       *time.Timer
	armed       bool
}

// bound is one limit of an incarnation. bounds.mu guards it.
type bound struct {
	inc        *incarnation
	isStart    bool // the limit of its start, not of its end
	list       *boundList
	prev, next *bound
	due        time.Duration
}

// begin begins a limit now. It must not run already.
func (x *bounds) begin(b *bound, inc *incarnation, isStart bool, length time.Duration, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()

	if x.of == nil {
		x.begun, x.of = now, map[time.Duration]*boundList{}
	}

	l := x.of[length]
	if l == nil {
		l = &boundList{length: length}
		x.of[length] = l
	}

	*b = bound{inc: inc, isStart: isStart, list: l, prev: l.last, due: now.Sub(x.begun) + length}
	if l.last == nil {
		l.first = b
	} else {
		l.last.next = b
	}
	l.last = b

	switch {
	case l.armed:
	case l.timer == nil:
		l.armed, l.timer = true, time.AfterFunc(length, func() { x.fire(l) })
	default:
		l.armed = true
		l.timer.Reset(length)
	}
}

// withdraw ends a limit, if it runs.
func (x *bounds) withdraw(b *bound) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if b.list != nil {
		b.list.remove(b)
	}
}

func (l *boundList) remove(b *bound) {
	if b.prev == nil {
		l.first = b.next
	} else {
		b.prev.next = b.next
	}
	if b.next == nil {
		l.last = b.prev
	} else {
		b.next.prev = b.prev
	}
	b.list, b.prev, b.next = nil, nil, nil
}

// fire tells the incarnations whose limit is over, and sets the timer for the next limit.
func (x *bounds) fire(l *boundList) {
	x.mu.Lock()
	var starts, ends []*incarnation
	now := time.Since(x.begun)

	for l.first != nil && l.first.due <= now {
		b := l.first
		if b.isStart {
			starts = append(starts, b.inc)
		} else {
			ends = append(ends, b.inc)
		}
		l.remove(b)
	}

	if l.first != nil {
		l.timer.Reset(l.first.due - now)
	} else {
		l.armed = false
	}
	x.mu.Unlock()

	for _, inc := range starts {
		inc.startExpired()
	}
	if len(ends) > 0 {
		ends[0].hub.expiries.add(expireAll, ends...)
	}
}

// rest stops the timers that no limit needs, at the end of a root.
func (x *bounds) rest() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, l := range x.of {
		if l.first == nil && l.timer.Stop() {
			l.armed = false
		}
	}
}
