package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/plain"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

const (
	redrawEvery  = time.Second            // keeps the times on a terminal up to date
	redrawAtMost = 100 * time.Millisecond // pause between two reads of a tree that changes all the time
	shownWorkers = 8                      // of a dynamic supervisor
)

// watchTree shows the tree, and each change of it, until it is interrupted.
func (a *app) watchTree(cmd *cobra.Command, asJSON bool) error {
	ctx, cancel, c, err := a.dial(cmd.Context())
	if err != nil {
		return err
	}

	first, err := c.Tree(ctx)
	cancel()
	if err != nil {
		return a.nodeError(ctx, err)
	}

	ctx, cancel = context.WithCancel(cmd.Context())
	defer cancel()

	changed := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- c.Events(ctx, client.EventsOptions{After: client.FromNow, Filter: "type=tree"},
			func(client.Event) error {
				select {
				case changed <- struct{}{}:
				default:
				}
				return nil
			})
	}()

	show := a.watcher(cmd.OutOrStdout(), asJSON)
	defer show.end()

	if err := show.tree(first.Root); err != nil {
		return err
	}

	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()

	for {
		select {
		case <-changed:
		case <-tick.C:
		case err := <-ended:
			if errors.Is(context.Cause(cmd.Context()), errInterrupted) {
				return nil
			}
			return a.nodeError(ctx, err)
		}

		look, done := context.WithTimeout(ctx, a.timeout)
		t, err := c.Tree(look)
		done()

		switch {
		case ctx.Err() != nil:
			continue // the stream of events ends too
		case err != nil:
			err = show.lost(a.nodeError(look, err), connect.CodeOf(err))
		default:
			err = show.tree(t.Root)
		}
		if err != nil {
			return err
		}

		pause := time.NewTimer(redrawAtMost)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

// watcher shows trees.
type watcher interface {
	tree(*apiv1.Child) error
	lost(error, connect.Code) error
	end()
}

func (a *app) watcher(out io.Writer, asJSON bool) watcher {
	switch s, ok := out.(*stdout); {
	case asJSON:
		return &jsonWatcher{out: out}
	case ok && s.terminal():
		fmt.Fprint(s, "\x1b[?25l\x1b[?7l") // no cursor; long lines are cut, not wrapped
		return &screen{out: s, p: paintFor(s.file)}
	}
	return &lineWatcher{out: out}
}

// screen draws the tree on a terminal.
type screen struct {
	out io.Writer
	p   paint
}

func (s *screen) show(body func(io.Writer)) error {
	var b bytes.Buffer
	b.WriteString("\x1b[H\x1b[2J") // in one write, so that it does not flicker
	body(&b)
	_, err := s.out.Write(b.Bytes())
	return err
}

func (s *screen) tree(root *apiv1.Child) error {
	return s.show(func(w io.Writer) { drawTree(w, s.p, fewWorkers(root), time.Now()) })
}

func (s *screen) lost(why error, _ connect.Code) error {
	return s.show(func(w io.Writer) { fmt.Fprintf(w, "%s\n", s.p.bad("no answer: "+why.Error())) })
}

func (s *screen) end() { fmt.Fprint(s.out, "\x1b[?7h\x1b[?25h") }

// fewWorkers removes the children of dynamic supervisors beyond the first shownWorkers.
func fewWorkers(c *apiv1.Child) *apiv1.Child {
	if c.GetSpec().GetStrategy() == apiv1.Strategy_STRATEGY_DYNAMIC && len(c.Children) > shownWorkers {
		c.Children = c.Children[:shownWorkers]
	}
	for _, child := range c.Children {
		fewWorkers(child)
	}
	return c
}

// lineWatcher writes a line for each child, and then a line for each change of one.
type lineWatcher struct {
	out  io.Writer
	seen map[string]string // by path
	gone bool
}

func (l *lineWatcher) tree(root *apiv1.Child) error {
	now := map[string]string{}
	paths := []string{}
	var walk func(c *apiv1.Child)
	walk = func(c *apiv1.Child) {
		live := c.GetLive()
		now[c.Path] = fmt.Sprintf("%s #%d  restarts %d", enumWord(live.GetState(), "CHILD_STATE_"),
			live.GetIncarnation(), live.GetRestarts())

		if live.GetLastExit() != "" {
			now[c.Path] += "  last exit: " + plain.Line(live.GetLastExit(), 120)
		}

		paths = append(paths, c.Path)

		if c.GetSpec().GetStrategy() != apiv1.Strategy_STRATEGY_DYNAMIC {
			for _, child := range c.Children {
				walk(child)
			}
		}
	}
	walk(root)
	var b bytes.Buffer
	at := time.Now().Format("15:04:05.000")

	for _, path := range paths {
		if l.seen[path] != now[path] {
			fmt.Fprintf(&b, "%s  %s  %s\n", at, path, now[path])
		}
	}

	for path := range l.seen {
		if now[path] == "" {
			fmt.Fprintf(&b, "%s  %s  gone\n", at, path)
		}
	}

	l.seen, l.gone = now, false
	_, err := l.out.Write(b.Bytes())
	return err
}

func (l *lineWatcher) lost(why error, _ connect.Code) error {
	if l.gone {
		return nil
	}
	l.gone = true
	_, err := fmt.Fprintf(l.out, "%s  no answer: %v\n", time.Now().Format("15:04:05.000"), why)
	return err
}

func (l *lineWatcher) end() {}

// jsonWatcher writes the whole tree on a line whenever it has changed.
type jsonWatcher struct {
	out  io.Writer
	last []byte
}

func (j *jsonWatcher) tree(root *apiv1.Child) error { return j.write(childOf(root)) }

func (j *jsonWatcher) lost(why error, code connect.Code) error {
	return j.write(map[string]string{"error": why.Error(), "code": code.String()})
}

func (j *jsonWatcher) write(v any) error {
	line, err := json.Marshal(v)
	if err != nil || bytes.Equal(line, j.last) {
		return err
	}
	j.last = line
	_, err = j.out.Write(append(bytes.Clone(line), '\n'))
	return err
}

func (j *jsonWatcher) end() {}
