package retention

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/thejerf/suture/v4"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/supervisor"
)

// Names of retainers, as "log stat" shows them. The pool registers its own.
const (
	RetainState     = "state"     // what the state on disk still needs
	RetainSnapshots = "snapshots" // what the oldest snapshot needs to be brought to the end
)

const (
	DefaultEvery = time.Second
	pruneAtOnce  = 50_000 // removals in one round
	maxBackoff   = 5 * time.Minute
)

// retention is the engine that keeps what is on the disk within bounds: it takes snapshots, prunes
// old versions, and truncates the log behind them. Nothing waits for it. What the disk refuses it,
// it tries again later; a state that turns out to be damaged ends the process.
type retention struct {
	*Snapshotter
	log   logger.Client
	store storage.Client

	floors map[string]*eventlog.Retainer
}

// newRetention returns the engine of one incarnation.
func newRetention(s *Snapshotter, c engines.Directory) *retention {
	return &retention{Snapshotter: s, log: logger.NewClient(c), store: storage.NewClient(c),
		floors: make(map[string]*eventlog.Retainer)}
}

// Round does once what retention does every Every: it takes a snapshot if one is due, prunes, and
// truncates the log.
func (s *Snapshotter) Round(ctx context.Context, c engines.Directory) error {
	return newRetention(s, c).round(ctx)
}

// startRetention begins with what a process that died left half done.
func (s *Snapshotter) Start(c engines.Directory) supervisor.StartFunc {
	return func(ctx context.Context) (supervisor.Service, error) {
		r := newRetention(s, c)
		done, err := s.Alone(ctx)
		if err != nil {
			return nil, err
		}
		defer done()

		removed, err := s.Dir().Settle()
		if err != nil {
			return nil, err
		}

		for _, name := range removed {
			s.Diagnostics.Info("half a snapshot removed", zap.String("snapshot", name))
		}

		// one that was taken while the node was stopped, or just before it died, counts too
		if err := s.keep(); err != nil {
			return nil, err
		}

		// The log was replayed upon the state that is there, so the one kept aside is not needed.
		return r, snapshots.Discard(s.Disk, home.StateDir(s.Home))
	}
}

// String names the service in reports.
func (*retention) String() string { return "retention" }

func (r *retention) Serve(ctx context.Context) error {
	faults := supervisor.Faults(ctx)
	wait := r.Every
	backoff := r.Every

	for {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		case f := <-faults:
			t.Stop()
			f.Do(ctx)
			continue
		case <-t.C:
		}

		switch err := r.round(ctx); {
		case err == nil, errors.Is(err, engines.ErrDown), errors.Is(err, api.ErrUnavailable), ctx.Err() != nil:
			wait, backoff = r.Every, r.Every
		case errors.Is(err, storage.ErrDamaged):
			return fmt.Errorf("%w: %w", err, suture.ErrTerminateSupervisorTree)
		default:
			backoff = min(2*backoff, maxBackoff)
			wait = backoff
			r.Diagnostics.Warn("retention failed, and is tried again later", zap.Error(err),
				zap.Duration("after", wait))
		}
	}
}

// round does what is due.
func (r *retention) round(ctx context.Context) error {
	c := r.Config
	state, err := r.store.State(ctx)
	if err != nil || !state.Started() {
		return err
	}
	stat, err := r.log.Stat(ctx)
	if err != nil {
		return err
	}
	list, err := r.Dir().Whole()
	if err != nil {
		return err
	}

	if every := c.Snapshots.EveryBytes; every > 0 && bytesAfter(stat, newestIndex(list)) >= every &&
		state.Index > newestIndex(list) {
		if _, _, err := r.take(ctx); err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		if list, err = r.Dir().Whole(); err != nil {
			return err
		}
	}

	if keep := uint64(c.Retention.Versions); keep > 0 && state.Height > keep &&
		state.Height-keep >= state.InitialHeight {
		if _, _, err := r.store.PruneSome(ctx, state.Height-keep, pruneAtOnce); err != nil && !errors.Is(err,
			storage.ErrNotCommitted) {
			return fmt.Errorf("pruning: %w", err)
		}
	}

	return r.truncate(ctx, list)
}

func newestIndex(list []snapshots.Entry) uint64 {
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1].Index
}

// bytesAfter is about how many bytes of the log come after a record.
func bytesAfter(st eventlog.Stat, index uint64) (n int64) {
	for _, s := range st.Segments {
		switch records := int64(s.Last - s.First + 1); {
		case s.First > index:
			n += s.Bytes
		case s.Last > index:
			n += int64(float64(s.Bytes) * float64(s.Last-index) / float64(records))
		}
	}
	return n
}

// truncate registers what holds the log, and removes what nothing holds, as far as the
// configuration wants it.
func (r *retention) truncate(ctx context.Context, list []snapshots.Entry) error {
	durable, err := r.store.DurableApplied(ctx)
	if err != nil {
		return err
	}

	floors := map[string]uint64{RetainState: durable + 1, RetainSnapshots: 0}
	if len(list) > 0 {
		floors[RetainSnapshots] = list[0].Index + 1
	}

	for name, floor := range floors {
		if f := r.floors[name]; f != nil {
			f.Advance(floor)
		} else if r.floors[name], err = r.log.Retain(ctx, name, floor); err != nil {
			return err
		}
	}

	if r.Config.Log.Retain == config.RetainAll || len(list) == 0 {
		return nil
	}

	return r.log.Use(ctx, func(l *eventlog.Log) error { return r.cut(l) })
}

// cut truncates the log behind all of its retainers.
func (r *retention) cut(l *eventlog.Log) error {
	st := l.Stat()
	front, pool := st.Durable+1, false

	for _, f := range st.Retainers {
		front = min(front, f.Floor)
		pool = pool || f.Name == mempool.RetainerName
	}

	if !pool || len(st.Segments) < 2 || st.Segments[1].First > front {
		return nil // without the pool's floor nobody knows what was acknowledged and has not ended
	}

	_, err := l.Truncate(front)
	return err
}
