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
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/coppice-go/coppice/engines"
)

// Table is the directory of one router incarnation. It is safe for concurrent use. Resolve takes no
// lock.
//
// The table holds the engines that run and the RememberedNames that ended last. An older name is
// forgotten: it is down as if it had never started.
type Table struct {
	entries sync.Map // string → *entry

	mu     sync.Mutex
	ended  []*entry      // those without a mailbox that are still in entries, oldest first
	change chan struct{} // closed, and replaced, at each registration
	closed chan struct{}
	reason error // set before closed is closed

	superseded bool // another table has taken its place in the Directory

	born uint64 // the router's incarnation; older engines belong to another table
}

// RememberedNames is the number of ended engines of which a Table still says why they ended.
const RememberedNames = 64

// entry is the newest incarnation of a name. One that has ended keeps no mailbox, because that
// holds the engine's handlers and the messages that it did not take.
type entry struct {
	name string
	box  *engines.Mailbox   // nil if it has ended
	down *engines.DownError // set if it has ended
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

	v, ok := t.entries.Load(name)
	if !ok {
		return nil, &engines.DownError{Engine: name}
	}

	e := v.(*entry)
	if e.box == nil {
		down := *e.down
		return nil, &down
	}

	select {
	case <-e.box.Done():
		return nil, e.box.Down()
	default:
		return e.box, nil
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
// new or newer (I5 in docs/architecture.md), if m is older than the table, or if another engine of
// that name runs (engines.ErrNameTaken).
func (t *Table) Register(m *engines.Mailbox) error {
	if err := t.put(m); err != nil {
		return err
	}
	m.OnEnd(func() { t.remember(m) })
	return nil
}

func (t *Table) put(m *engines.Mailbox) error {
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

	if v, ok := t.entries.Load(m.Name()); ok {
		if err := v.(*entry).yield(m); err != nil {
			return fmt.Errorf("router: %w", err)
		}
	}

	if v, ok := t.entries.Swap(m.Name(), &entry{name: m.Name(), box: m}); ok && v.(*entry).box != nil {
		v.(*entry).box.Retire()
	}
	if !t.superseded {
		m.Publish()
	}
	t.ended = slices.DeleteFunc(t.ended, func(e *entry) bool { return e.name == m.Name() })
	close(t.change)
	t.change = make(chan struct{})

	return nil
}

// yield returns nil if m may take the place of e.
func (e *entry) yield(m *engines.Mailbox) error {
	ended := false
	select {
	case <-m.Done():
		ended = true
	default:
	}

	if e.incarnation() >= m.Incarnation() && (ended || e.box == nil || e.box == m) {
		return fmt.Errorf("%s: incarnation %d is not newer than %d, which is registered", m.Name(), m.Incarnation(),
			e.incarnation())
	}

	return m.Replaces(e.box)
}

func (e *entry) incarnation() uint64 {
	if e.box == nil {
		return e.down.Incarnation
	}
	return e.box.Incarnation()
}

// remember keeps why m ended, and forgets the name that ended first if there are too many.
func (t *Table) remember(m *engines.Mailbox) {
	t.mu.Lock()
	defer t.mu.Unlock()

	v, ok := t.entries.Load(m.Name())
	if !ok || v.(*entry).box != m {
		return // a newer incarnation has the name
	}

	e := &entry{name: m.Name(), down: m.Down()}
	t.entries.Store(m.Name(), e)
	t.ended = append(t.ended, e)

	if len(t.ended) > RememberedNames {
		t.entries.Delete(t.ended[0].name)
		t.ended = slices.Delete(t.ended, 0, 1)
	}
}

// Entry describes one registered engine.
type Entry struct {
	Name        string
	Incarnation uint64
	Waiting     int           // messages in the mailbox
	Oldest      time.Duration // age of the oldest unfinished message
	Up          bool
}

// List returns an entry for every engine that runs, and for those that ended last, sorted by name.
func (t *Table) List() []Entry {
	var list []Entry
	t.entries.Range(func(_, v any) bool {
		e := v.(*entry)
		one := Entry{Name: e.name, Incarnation: e.incarnation()}
		if e.box != nil {
			one.Waiting, one.Oldest = e.box.Len(), e.box.Oldest()

			select {
			case <-e.box.Done():
			default:
				one.Up = true
			}
		}

		list = append(list, one)

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
	t.retire()
}

// supersede notes that the Directory has another table.
func (t *Table) supersede() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.superseded = true
	t.retire()
}

// retire makes every Address ask the directory again.
func (t *Table) retire() {
	t.entries.Range(func(_, v any) bool {
		if box := v.(*entry).box; box != nil {
			box.Retire()
		}
		return true
	})
}

// Stats returns what the living engines are doing, by name. It does not wait for any of them.
func (t *Table) Stats() []engines.Stat {
	var out []engines.Stat

	t.entries.Range(func(_, v any) bool {
		box := v.(*entry).box
		if box == nil {
			return true
		}

		select {
		case <-box.Done():
		default:
			out = append(out, box.Stat())
		}
		return true
	})

	slices.SortFunc(out, func(a, b engines.Stat) int { return strings.Compare(a.Name, b.Name) })

	return out
}
