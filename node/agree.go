package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/thejerf/suture/v4"

	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/install"
)

// agree checks at a start that the state and the log in the home belong together, and binds the
// state to the log. If the two disagree, the process ends, because no restart would mend that.
func (n *Node) agree(ctx context.Context, c *core) error {
	log, store := logger.NewClient(c.dir), storage.NewClient(c.dir).SameGeneration()

	var s install.LoggedState
	var err error
	if s.State, err = store.State(ctx); err != nil {
		return err
	}
	if s.Log, s.Bound, err = store.LogID(ctx); err != nil {
		return err
	}

	var id [16]byte
	if err := log.Use(ctx, func(l *eventlog.Log) error {
		id = l.ID()
		return install.Agree(l, s)
	}); err != nil {
		if errors.Is(err, exit.ErrDamage) {
			err = fmt.Errorf("%w: %w", err, suture.ErrTerminateSupervisorTree)
		}

		return err
	}

	return store.BindLog(ctx, id)
}
