package router

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/coppice-go/coppice/engines"
)

// Directory is the engines.Directory of a node. Each incarnation of the router brings a table of
// its own. Directory outlives them, and holds the table of the living incarnation, or of the last
// one.
type Directory struct {
	table atomic.Pointer[Table]
	times func(engine string) engines.Observer
}

var errNoRouter = errors.New("no router has started")

// NewDirectory returns a directory in which everything is down until a router starts.
func NewDirectory() *Directory {
	d := &Directory{}
	t := newTable(0)
	t.close(errNoRouter)
	d.table.Store(t)
	return d
}

// Measure makes calls report their durations to the Observer that times returns for the called
// engine. Call it before the first engine starts.
func (d *Directory) Measure(times func(engine string) engines.Observer) *Directory {
	d.times = times
	return d
}

// CallTimes implements engines.Measurer. It returns the Observer for calls to the named engine, or
// nil if there is none.
func (d *Directory) CallTimes(engine string) engines.Observer {
	if d.times == nil {
		return nil
	}
	return d.times(engine)
}

// Table returns the table of the newest router.
func (d *Directory) Table() *Table { return d.table.Load() }

// Resolve returns the living mailbox of name in the current table, or a *engines.DownError.
func (d *Directory) Resolve(name string) (*engines.Mailbox, error) { return d.Table().Resolve(name) }

// Await waits for a living incarnation of name whose number is above after, and returns its
// mailbox. It waits on the current table. When that table's router ends, the wait ends, because all
// engines of the router's group end with it.
func (d *Directory) Await(ctx context.Context, name string, after uint64) (*engines.Mailbox, error) {
	return d.Table().Await(ctx, name, after)
}

// Register makes m the mailbox of its name in the current table, as Table.Register describes.
func (d *Directory) Register(m *engines.Mailbox) error { return d.Table().Register(m) }
