package top

import (
	"context"
	"errors"
	"sync"
	"time"

	"connectrpc.com/connect"
	tea "github.com/charmbracelet/bubbletea"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/eventline"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// feed holds the streams of the node, and sends what comes to the view.
type feed struct {
	ctx  context.Context
	node *client.Client
	send func(tea.Msg)

	mu     sync.Mutex
	group  sync.WaitGroup
	tree   context.CancelFunc
	events context.CancelFunc
	filter string
	cursor client.Cursor // of the last event
	open   bool          // the events are wanted
}

const (
	treesPerSecond = frames                 // at most so many messages
	batchEvery     = 200 * time.Millisecond // pause between two messages with events
	batchMost      = 500                    // events in one message
	retryEvery     = 500 * time.Millisecond
)

// pause ends the streams, or begins them again where they ended.
func (f *feed) pause(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.stop(&f.tree)
	f.stop(&f.events)
	if on {
		return
	}

	f.tree = f.begin(f.watch)
	if f.open {
		f.events = f.begin(f.read)
	}
}

// follow begins the events that match a filter, from now on.
func (f *feed) follow(filter string) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.stop(&f.events)
	f.filter, f.open, f.cursor = filter, true, client.Cursor{Index: client.FromNow}
	f.events = f.begin(f.read)
}

// end stops the streams, and waits for their goroutines.
func (f *feed) end() {
	f.mu.Lock()
	f.stop(&f.tree)
	f.stop(&f.events)
	f.mu.Unlock()
	f.group.Wait()
}

func (f *feed) stop(cancel *context.CancelFunc) {
	if *cancel != nil {
		(*cancel)()
		*cancel = nil
	}
}

func (f *feed) begin(run func(context.Context)) context.CancelFunc {
	ctx, cancel := context.WithCancel(f.ctx)
	f.group.Go(func() { run(ctx) })
	return cancel
}

// watch follows the tree. If the stream ends, it asks again.
func (f *feed) watch(ctx context.Context) {
	for ctx.Err() == nil {
		err := f.node.TreeDelta(ctx, treesPerSecond, func(d *apiv1.TreeDeltaResponse) error {
			f.send(treeMsg{d})
			return nil
		})
		if ctx.Err() != nil {
			return
		}
		f.send(treeLostMsg{err})
		if connect.CodeOf(err) == connect.CodeUnimplemented {
			return // an older node
		}

		t := time.NewTimer(retryEvery)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// answered reports whether an error is the node's answer, and no sign that it is down.
func answered(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeUnimplemented, connect.CodePermissionDenied, connect.CodeUnauthenticated,
		connect.CodeResourceExhausted:
		return true
	}
	return false
}

// read follows the events, and sends them in batches: a busy node has more of them than a screen.
func (f *feed) read(ctx context.Context) {
	f.mu.Lock()
	o := client.EventsOptions{After: f.cursor.Index, History: f.cursor.History, Filter: f.filter}
	f.mu.Unlock()

	b := &batch{send: f.send}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.run(ctx)
	}()

	err := f.node.Events(ctx, o, func(e client.Event) error {
		if e.Cursor != nil {
			f.mu.Lock()
			if ctx.Err() == nil { // or else the cursor is another stream's by now
				f.cursor = client.Cursor{Index: *e.Cursor, History: e.History}
			}
			f.mu.Unlock()
		}
		if e.Type() != "cursor" {
			b.add(eventline.Of(e))
		}
		return nil
	})

	if ctx.Err() == nil { // the filter is wrong, or the cursor is: another attempt changes nothing
		b.fail(err)
	}
	<-done
}

// batch collects events.
type batch struct {
	send func(tea.Msg)

	mu   sync.Mutex
	next eventsMsg
}

func (b *batch) add(l eventline.Line) {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.next.lines = append(b.next.lines, l)
	if n := len(b.next.lines) - batchMost; n > 0 {
		b.next.lines, b.next.lost = b.next.lines[n:], b.next.lost+uint64(n)
	}
}

func (b *batch) fail(err error) {
	if wire := new(connect.Error); errors.As(err, &wire) {
		err = errors.New(wire.Message())
	}
	b.mu.Lock()
	b.next.err = err
	b.mu.Unlock()
}

// run sends what has come, until ctx ends.
func (b *batch) run(ctx context.Context) {
	t := time.NewTicker(batchEvery)
	defer t.Stop()

	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}

		b.mu.Lock()
		now := b.next
		b.next = eventsMsg{}
		b.mu.Unlock()

		if len(now.lines) > 0 || now.lost > 0 || now.err != nil {
			b.send(now)
		}
	}
}
