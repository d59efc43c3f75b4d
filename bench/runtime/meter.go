package main

import (
	"runtime"
	"slices"
	"time"
)

// meter takes the figures of one program in one round.
type meter struct {
	n       int // operations to do
	figures []figure

	samples []time.Duration
	begun   time.Time
	mallocs uint64
}

// figure is one result: nanoseconds or bytes an operation, and allocations if they were counted.
type figure struct {
	what   string // "" if the program has one figure only
	value  float64
	allocs float64 // below 0: not counted
}

// begin begins the measured part.
func (m *meter) begin() {
	runtime.GC()
	m.samples = m.samples[:0]
	m.mallocs = mallocs()
	m.begun = time.Now()
}

// sample notes how long one operation took. With samples, the figure is their median.
func (m *meter) sample(d time.Duration) { m.samples = append(m.samples, d) }

// restarts is the work of the restart rows: a child is told to end, until its next life runs.
func (m *meter) restarts(die chan<- struct{}, starts <-chan struct{}) {
	m.begin()
	for range m.n {
		at := time.Now()
		die <- struct{}{}
		<-starts
		m.sample(time.Since(at))
	}
	m.end("", m.n)
}

// end ends the measured part, in which ops operations were done.
func (m *meter) end(what string, ops int) {
	took := float64(time.Since(m.begun).Nanoseconds()) / float64(ops)
	allocs := float64(mallocs()-m.mallocs) / float64(ops)
	if len(m.samples) > 0 {
		slices.Sort(m.samples)
		took = float64(m.samples[len(m.samples)/2].Nanoseconds())
	}
	m.figures = append(m.figures, figure{what, took, allocs})
}

// note adds a figure without allocations.
func (m *meter) note(what string, value float64) {
	m.figures = append(m.figures, figure{what, value, -1})
}

func mallocs() uint64 {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.Mallocs
}

// heap returns the bytes in use, of the heap and of stacks, after a collection.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return float64(s.HeapAlloc + s.StackInuse)
}
