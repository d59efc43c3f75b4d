package router

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/coppice-go/coppice/engines"
)

// Directory is the engines.Directory of a node. It holds the table of the router's living
// incarnation, or of the last one. It outlives the router's incarnations, each of which brings its
// own table.
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

// Measure has the durations of calls reported to the Observer that times returns for the called
// engine. Call it before the first engine starts.
func (d *Directory) Measure(times func(engine string) engines.Observer) *Directory {
	d.times = times
	return d
}

// CallTimes makes a Directory an engines.Measurer.
func (d *Directory) CallTimes(engine string) engines.Observer {
	if d.times == nil {
		return nil
	}
	return d.times(engine)
}

// Table returns the newest router's table.
func (d *Directory) Table() *Table { return d.table.Load() }

// Resolve is Table.Resolve.
func (d *Directory) Resolve(name string) (*engines.Mailbox, error) { return d.Table().Resolve(name) }

// Await is Table.Await on the current table. When that table's router ends, the wait ends, because
// all engines of the router's group end with it.
func (d *Directory) Await(ctx context.Context, name string, after uint64) (*engines.Mailbox, error) {
	return d.Table().Await(ctx, name, after)
}

// Register is Table.Register.
func (d *Directory) Register(m *engines.Mailbox) error { return d.Table().Register(m) }
