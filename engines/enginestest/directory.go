// Package enginestest contains a directory for tests of single engines, which run without a router.
package enginestest

import (
	"context"
	"sync"

	"github.com/coppice-go/coppice/engines"
)

// Directory is an engines.Directory that knows the engines of one test. Unlike the router's table
// it lives as long as the test, takes any incarnation, and forgets no name. The zero value is ready
// for use.
type Directory struct {
	mu     sync.Mutex
	boxes  map[string]*engines.Mailbox
	change chan struct{} // closed at the next registration; nil if no caller waits
}

// Register makes m the mailbox of its name. It returns an error if another engine of that name
// runs.
func (d *Directory) Register(m *engines.Mailbox) error {
	d.mu.Lock()
	defer d.mu.Unlock()

	if d.boxes == nil {
		d.boxes = make(map[string]*engines.Mailbox)
	}
	if err := m.Replaces(d.boxes[m.Name()]); err != nil {
		return err
	}
	d.boxes[m.Name()] = m

	if d.change != nil {
		close(d.change)
		d.change = nil
	}

	return nil
}

// Resolve returns the living mailbox of name or a *engines.DownError.
func (d *Directory) Resolve(name string) (*engines.Mailbox, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.resolve(name)
}

// Await waits for a living incarnation of name with a number above after, and returns its mailbox.
func (d *Directory) Await(ctx context.Context, name string, after uint64) (*engines.Mailbox, error) {
	for {
		d.mu.Lock()
		box, err := d.resolve(name)
		if d.change == nil {
			d.change = make(chan struct{})
		}
		change := d.change
		d.mu.Unlock()

		if err == nil && box.Incarnation() > after {
			return box, nil
		}

		select {
		case <-change:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (d *Directory) resolve(name string) (*engines.Mailbox, error) {
	box := d.boxes[name]
	if box == nil {
		return nil, &engines.DownError{Engine: name}
	}

	select {
	case <-box.Done():
		return nil, box.Down()
	default:
		return box, nil
	}
}
