package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/load"
	"github.com/coppice-go/coppice/cmd/coppice/internal/register"
	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// work is the load on the nodes, and what watches them: two loads for each node, the clients of the
// registers, and a follower of each node's blocks.
type work struct {
	net     *network
	court   *court
	chain   *sightings
	ledger  *rig.Ledger
	history *register.History

	stop    chan struct{} // closed so that no new submission or operation begins
	end     context.CancelFunc
	loads   sync.WaitGroup
	follow  sync.WaitGroup
	unknown atomic.Int64
}

const (
	opTimeout = 8 * time.Second  // of a register's operation
	keyEvery  = 10 * time.Second // how often the registers change
)

// employ starts the work.
func employ(c Config, n *network, court *court) (*work, error) {
	w := &work{net: n, court: court, chain: newSightings(), ledger: rig.NewLedger(), history: register.NewHistory(),
		stop: make(chan struct{})}
	var runs []*load.Run
	prefix := load.NewPrefix()

	for i := range n.clients {
		both, err := rig.Loads(load.Config{Client: n.clients[i], Clients: 3, Batch: 5, Rate: c.Rate / float64(c.Nodes),
			Acked: w.ledger.Write, Stop: w.stop, Failed: w.failed}, fmt.Sprintf("%s%d.", prefix, i))
		if err != nil {
			return nil, err
		}

		runs = append(runs, both...)
	}

	var ctx context.Context
	ctx, w.end = context.WithCancel(context.Background()) // the work survives every trouble, and ends with close

	for _, run := range runs {
		w.loads.Go(func() {
			if _, err := run.Run(ctx); err != nil {
				court.charge(Orderly, "the load ended: %v", err)
			}
		})
	}

	w.loads.Go(func() {
		err := w.history.Run(ctx, register.Config{
			Nodes: n.clients, PerNode: 2, Seed: c.Seed, Prefix: prefix + "register/", Every: keyEvery,
			Timeout: opTimeout,
			Pause:   50 * time.Millisecond, Stop: w.stop,
		})
		if err != nil && ctx.Err() == nil {
			court.charge(Orderly, "%v", err)
		}
	})

	for i := range n.clients {
		w.follow.Go(func() {
			f := &follower{sightings: w.chain, node: i}
			err := n.clients[i].Follow(ctx, 0, []string{"BlockCommitted"}, func(r client.Record) error {
				return f.take(r.Message.(*logv1.BlockCommitted))
			})
			if err != nil && ctx.Err() == nil {
				court.charge(NoFork, "stream of node %d: %v", i, err)
			}
		})
	}

	return w, nil
}

// failed is called when a transaction of a load failed or its outcome is unknown. The load goes on
// in any case.
func (w *work) failed(it load.Item, err error) bool {
	if errors.Is(err, client.ErrUnknown) {
		w.unknown.Add(1)
	} else {
		w.court.charge(Orderly, "load: %s: %v", it.Key, err)
	}
	return true
}

// prove waits, for at most limit, until there is something to judge: an acknowledged transaction,
// and a read and a write of a register. Without it a short run on a slow machine would end before
// its work has an answer, and blame the nodes. What is still missing after limit is a violation,
// which audit and judge record.
func (w *work) prove(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	for !w.proven() && rig.Pause(ctx, 50*time.Millisecond) == nil {
	}
}

// proven reports whether there is something to judge.
func (w *work) proven() bool {
	n := w.history.Count()
	return len(w.ledger.All()) > 0 && n.Gets > 0 && n.Puts+n.CAS > 0
}

// drain ends the loads and the registers' clients in order: they begin nothing new, and wait for
// their answers for at most limit. The outcome of a submission without an answer is then unknown.
func (w *work) drain(ctx context.Context, limit time.Duration) {
	close(w.stop)
	late := time.AfterFunc(limit, w.end)
	defer late.Stop()
	defer context.AfterFunc(ctx, w.end)()

	w.loads.Wait()
}

// close ends all of the work.
func (w *work) close() {
	w.end()
	w.loads.Wait()
	w.follow.Wait()
}

// audit reads the counter of every acknowledged transaction back from every node, and records what
// is lost and what was applied twice.
func (w *work) audit(ctx context.Context, res *Result) error {
	items := w.ledger.All()
	res.Acknowledged, res.Unknown = len(items), int(w.unknown.Load())

	for i, c := range w.net.clients {
		count, err := rig.Audit(ctx, c, items)
		if err != nil {
			return fmt.Errorf("reading back from node %d: %w", i, err)
		}

		res.Lost, res.Twice = max(res.Lost, count.Lost), max(res.Twice, count.Twice)

		if count.Lost > 0 {
			w.court.charge(NothingLost, "node %d: %d of %d are not there: %v", i, count.Lost, len(items),
				count.Examples)
		}

		if count.Twice > 0 {
			w.court.charge(NothingTwice, "node %d: %d of %d: %v", i, count.Twice, len(items), count.Examples)
		}
	}

	if len(items) == 0 {
		w.court.charge(Orderly, "no transaction was acknowledged")
	}

	return nil
}
