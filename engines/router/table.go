// Package router keeps the addresses of all engines of a node: which incarnation of each name is
// alive.
//
// The router is an engine itself. Its table lives exactly as long as its incarnation. When the
// incarnation ends, every name in the table is down and stays down, because the supervisor starts
// all engines anew.
package router

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coppice-go/coppice/engines"
)

// Table is the directory of one router incarnation. It is safe for concurrent use. Resolve takes no
// lock.
type Table struct {
	entries sync.Map // string → *entry

	mu     sync.Mutex
	change chan struct{} // closed, and replaced, at each registration
	closed chan struct{}
	reason error // set before closed is closed

	born uint64 // the router's incarnation; older engines belong to another table
}

type entry struct {
	box atomic.Pointer[engines.Mailbox]
}

func newTable(born uint64) *Table {
	return &Table{born: born, change: make(chan struct{}), closed: make(chan struct{})}
}

// Resolve returns the living mailbox of name, or a *engines.DownError.
func (t *Table) Resolve(name string) (*engines.Mailbox, error) {
	select {
	case <-t.closed:
		return nil, &engines.DownError{Engine: name, Cause: t.reason}
	default:
	}

	e, ok := t.entries.Load(name)
	if !ok {
		return nil, &engines.DownError{Engine: name}
	}
	box := e.(*entry).box.Load()
	if box == nil { // being registered for the first time
		return nil, &engines.DownError{Engine: name}
	}

	select {
	case <-box.Done():
		return nil, box.Down()
	default:
		return box, nil
	}
}

// Await waits for a living incarnation of name whose number is above after, and returns its
// mailbox.
func (t *Table) Await(ctx context.Context, name string, after uint64) (*engines.Mailbox, error) {
	for {
		t.mu.Lock()
		change := t.change
		t.mu.Unlock()

		box, err := t.Resolve(name)
		if err == nil && box.Incarnation() > after {
			return box, nil
		}

		select {
		case <-change:
		case <-t.closed:
			return nil, &engines.DownError{Engine: name, Cause: t.reason}
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for engine %s: %w", name, context.Cause(ctx))
		}
	}
}

// Register makes m the mailbox of its name. It returns an error if the registered incarnation is as
// new or newer (I5 in docs/architecture.md), or if m is older than the table.
func (t *Table) Register(m *engines.Mailbox) error {
	t.mu.Lock()
	defer t.mu.Unlock()

	select {
	case <-t.closed:
		return &engines.DownError{Engine: m.Name(), Cause: t.reason}
	default:
	}

	if m.Incarnation() < t.born {
		return fmt.Errorf("router: %s: incarnation %d is older than this table, %d", m.Name(), m.Incarnation(), t.born)
	}

	v, _ := t.entries.LoadOrStore(m.Name(), &entry{})
	e := v.(*entry)
	if old := e.box.Load(); old != nil && old.Incarnation() >= m.Incarnation() {
		return fmt.Errorf("router: %s: incarnation %d is not newer than %d, which is registered", m.Name(),
			m.Incarnation(), old.Incarnation())
	}

	e.box.Store(m)
	close(t.change)
	t.change = make(chan struct{})

	return nil
}

// Entry describes one registered engine.
type Entry struct {
	Name        string
	Incarnation uint64
	Waiting     int           // messages in the mailbox
	Oldest      time.Duration // age of the oldest unfinished message
	Up          bool
}

// List returns an entry for every name that was ever registered here, sorted by name.
func (t *Table) List() []Entry {
	var list []Entry
	t.entries.Range(func(name, v any) bool {
		box := v.(*entry).box.Load()
		if box == nil {
			return true
		}

		up := true

		select {
		case <-box.Done():
			up = false
		default:
		}

		list = append(list, Entry{Name: name.(string), Incarnation: box.Incarnation(), Waiting: box.Len(),
			Oldest: box.Oldest(), Up: up})

		return true
	})
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}

// close makes every name down for ever.
func (t *Table) close(reason error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reason = reason
	close(t.closed)
}
