package router

import (
	"context"
	"errors"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/supervisor"
)

// Name is the router's own address.
const Name = "router"

// ErrRouterDown is why every engine of an ended router is down.
var ErrRouterDown = errors.New("the router has ended")

// Child returns the StartFunc of the router that owns t. A table serves one incarnation; whoever builds the tree makes a
// new one for each run.
func Child(t *Table) supervisor.StartFunc {
	return engines.Spec{
		Name: Name,
		Init: func(context.Context, *engines.Server) error { return nil },
		Stop: func() { t.close(ErrRouterDown) },
	}.Start(t)
}
