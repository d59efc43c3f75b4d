package main

import (
	"fmt"
	"os"
	"time"
)

// progress is one line on the terminal that is written over and over. Where standard error is no
// terminal it shows nothing.
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

// clear takes the line away.
func (p *progress) clear() { p.line("") }

// end takes the line away for good.
func (p *progress) end() {
	if p.ticker != nil {
		p.clear()
		p.ticker.Stop()
	}
}
