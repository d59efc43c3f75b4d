package router

import (
	"context"
	"errors"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/supervisor"
)

// Name is the router's own address.
const Name = "router"

// ErrRouterDown is the reason why the engines in the table of an ended router are down.
var ErrRouterDown = errors.New("the router has ended")

// Child returns the router's StartFunc. Each incarnation puts a new, empty table into d.
func Child(d *Directory) supervisor.StartFunc {
	return func(ctx context.Context) (supervisor.Service, error) {
		t := newTable(supervisor.Incarnation(ctx))
		before := d.table.Swap(t)
		before.supersede() // its router may still run, although it was replaced
		return engines.Spec{
			Name: Name,
			Init: func(context.Context, *engines.Server) error { return nil },
			Stop: func() { t.close(ErrRouterDown) },
		}.Start(t)(ctx)
	}
}
