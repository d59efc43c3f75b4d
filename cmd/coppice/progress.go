package main

import (
	"fmt"
	"os"
	"time"
)

// progress is one line on the terminal that is overwritten again and again. If standard error is
// not a terminal, it shows nothing.
type progress struct {
	tick   <-chan time.Time
	ticker *time.Ticker
}

func newProgress() *progress {
	if !terminal(os.Stderr) {
		return &progress{}
	}
	t := time.NewTicker(200 * time.Millisecond)
	return &progress{tick: t.C, ticker: t}
}

func (p *progress) line(s string) {
	if p.ticker != nil {
		fmt.Fprintf(os.Stderr, "\r\x1b[K%s", s)
	}
}

// clear erases the line.
func (p *progress) clear() { p.line("") }

// end erases the line and shows nothing more.
func (p *progress) end() {
	if p.ticker != nil {
		p.clear()
		p.ticker.Stop()
	}
}

// steps returns a function that shows how far a step of a command has come.
func steps(show *progress) func(step string, done, total uint64) {
	return func(step string, done, total uint64) {
		select {
		case <-show.tick:
			if total == 0 {
				show.line(step)
				return
			}
			show.line(fmt.Sprintf("%s: %d %% (%d of %d)", step, 100*done/total, done, total))
		default:
		}
	}
}

// step is steps for a command of one step.
func step(show *progress, name string) func(done, total uint64) {
	f := steps(show)
	return func(done, total uint64) { f(name, done, total) }
}
