package command

import (
	"fmt"
	"os"
	"time"
)

// progressBar is one line on the terminal that is overwritten again and again. If standard error is
// not a terminal, it shows nothing.
type progressBar struct {
	tick   <-chan time.Time
	ticker *time.Ticker
}

func newProgress() *progressBar {
	if !terminal(os.Stderr) {
		return &progressBar{}
	}
	t := time.NewTicker(200 * time.Millisecond)
	return &progressBar{tick: t.C, ticker: t}
}

func (p *progressBar) line(s string) {
	if p.ticker != nil {
		fmt.Fprintf(os.Stderr, "\r\x1b[K%s", s)
	}
}

// clear erases the line.
func (p *progressBar) clear() { p.line("") }

// end erases the line and shows nothing more.
func (p *progressBar) end() {
	if p.ticker != nil {
		p.clear()
		p.ticker.Stop()
	}
}

// steps returns a function that shows on the terminal how much of a step of a command is done.
func steps(show *progressBar) func(step string, done, total uint64) {
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

// step returns a function that shows how much of a command is done. It is for a command that has
// only one step, which it calls name.
func step(show *progressBar, name string) func(done, total uint64) {
	f := steps(show)
	return func(done, total uint64) { f(name, done, total) }
}
