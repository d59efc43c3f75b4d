package retention

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/thejerf/suture/v4"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
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

// Names of retainers, as "log stat" shows them. A retainer keeps the records of the log from some
// record on. The pool registers its own.
const (
	RetainState     = "state"     // records that the state on disk still needs
	RetainSnapshots = "snapshots" // records after the oldest snapshot, which replay needs
)

const (
	// DefaultEvery is the time between two rounds of retention unless Options.Every is set.
	DefaultEvery = time.Second

	pruneAtOnce = 50_000          // versions that one round removes at most
	maxBackoff  = 5 * time.Minute // between two rounds that fail
)

// Start returns the StartFunc of the retention engine. An incarnation first cleans up the
// unfinished work of a dead process.
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
			s.Diagnostics.Info("incomplete snapshot removed", zap.String("snapshot", name))
		}

		// A snapshot that was taken while the node was stopped, or just before it died, counts too.
		if err := s.keep(); err != nil {
			return nil, err
		}

		// The log was replayed on the present state, so the old state that was kept aside is not
		// needed any more.
		return r, snapshots.Discard(s.Disk, home.StateDir(s.Home))
	}
}

// Round does one round of retention at once: it takes a snapshot if one is due, prunes, and
// truncates the log. The engine does this at every Options.Every.
func (s *Snapshotter) Round(ctx context.Context, c engines.Directory) error {
	return newRetention(s, c).round(ctx)
}

// retention is one incarnation of the retention engine, which keeps the data on disk within bounds:
// it takes snapshots, prunes old versions, and truncates the log before them. No other engine waits
// for it. After an error of the disk it tries again later. A damaged state ends the process.
type retention struct {
	*Snapshotter
	log   logger.Client
	store storage.Client

	floors map[string]*eventlog.Retainer // by name

	followers Followers // as they are on the disk; nil: not read yet
	noted     time.Time // when they were written
}

// newRetention returns an incarnation of the engine that uses the engines of c.
func newRetention(s *Snapshotter, c engines.Directory) *retention {
	return &retention{Snapshotter: s, log: logger.NewClient(c), store: storage.NewClient(c),
		floors: make(map[string]*eventlog.Retainer)}
}

// String names the service in reports.
func (*retention) String() string { return "retention" }

// Serve does a round at every interval Every until ctx ends. After a round that failed it waits
// longer.
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
			r.Diagnostics.Warn("retention failed and will be tried again", zap.Error(err),
				zap.Duration("after", wait))
		}
	}
}

// round takes a snapshot if one is due, prunes, and truncates the log.
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

	if to := r.pruneTo(state); to > 0 && to >= state.InitialHeight {
		_, _, err := r.store.PruneSome(ctx, to, pruneAtOnce)
		if err != nil && !errors.Is(err, storage.ErrNotCommitted) {
			return fmt.Errorf("pruning: %w", err)
		}
	}

	return errors.Join(r.truncate(ctx, list), r.note(stat))
}

// pruneTo returns the oldest height of the current period that must stay readable: by the
// configuration, and for the sinks. 0 means that nothing is to be pruned.
func (r *retention) pruneTo(s chain.State) uint64 {
	keep := uint64(r.Config.Retention.Versions)
	if keep == 0 || s.Height <= keep {
		return 0
	}

	to := s.Height - keep
	if r.Versions == nil {
		return to
	}
	switch oldest, held := r.Versions(); {
	case held && oldest.Period < s.Period:
		return 0
	case held:
		return min(to, oldest.Height)
	}

	return to
}

// newestIndex returns the log index of the newest snapshot, 0 if there is none.
func newestIndex(list []snapshots.Entry) uint64 {
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1].Index
}

// bytesAfter estimates how many bytes of the log come after a record.
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

// truncate registers the retainers of the state and of the snapshots. Then it removes the records
// that no retainer needs, unless the configuration keeps all of them.
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

// cut removes the records of the log that no retainer keeps. If the pool has no retainer yet, it
// removes no record, because only the pool knows which acknowledged transactions have not ended.
func (r *retention) cut(l *eventlog.Log) error {
	st := l.Stat()
	front, pool := st.Durable+1, false

	for _, f := range st.Retainers {
		front = min(front, f.Floor)
		pool = pool || f.Name == mempool.RetainerName
	}

	if !pool || len(st.Segments) < 2 || st.Segments[1].First > front {
		return nil
	}

	_, err := l.Truncate(front)
	return err
}
