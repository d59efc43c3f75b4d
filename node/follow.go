package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/events"
	"github.com/coppice-go/coppice/pubsub"
)

// byKind are the filters of followers: those who want the same kinds share an agent.
var byKind = pubsub.Where("kind", func(e engines.Event, value string) bool {
	r, ok := e.(engines.RecordLogged)
	return ok && (value == "" || value == chain.KindName(r.Kind))
})

// followBuffer is how much news may wait for a follower that reads. More is dropped: what it reads
// comes from the log.
const followBuffer = 16

// Follow tails the log for one follower. The bus only says when there is something to read: the log
// is truth, and a follower whose bus restarted, or who missed news, has missed no record.
func (b *apiCore) Follow(ctx context.Context, after uint64, kinds []string, send func(api.Logged) error) error {
	cur, _, err := events.Behind(ctx, b.log, after)
	if err != nil {
		return err
	}
	defer cur.Close()

	chain := pubsub.Chain[engines.Event]{byKind.Is("")}
	if len(kinds) == 1 {
		chain = pubsub.Chain[engines.Event]{byKind.Is(kinds[0])}
	}

	for {
		news, err := b.node.bus.SubscribeWait(ctx, chain, pubsub.DropOldest{Buffer: followBuffer})
		if err != nil {
			return followEnd(ctx, err)
		}

		err = b.tail(ctx, cur, news, kinds, send)
		news.Close()
		if !errors.Is(err, pubsub.ErrDown) {
			return followEnd(ctx, err)
		}
	}
}

func followEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// tail sends what is durable, and then waits for news, again and again.
func (b *apiCore) tail(ctx context.Context, cur *eventlog.Cursor, news *pubsub.Subscription[engines.Event],
	kinds []string, send func(api.Logged) error) error {
	for {
		var skipped uint64
		for {
			e, ok, err := cur.TryNext()
			if err != nil {
				return fmt.Errorf("%w: %w", api.ErrUnavailable, err) // the logger ended: follow its successor
			}
			if !ok {
				break
			}

			kind := chain.KindName(e.Kind)
			if len(kinds) > 0 && !slices.Contains(kinds, kind) {
				skipped = e.Index
				continue
			}

			skipped = 0
			if err := send(api.Logged{Index: e.Index, Kind: kind, Data: e.Data}); err != nil {
				return err
			}
		}

		if skipped > 0 {
			if err := send(api.Logged{Index: skipped}); err != nil {
				return err
			}
		}

		_, err := news.Next(ctx)
		if err != nil && !errors.As(err, new(*pubsub.Gap)) {
			return err
		}
	}
}

// eventLog is the log of the node that runs now, for streams of events, which outlive it.
func (n *Node) openEventLog() (events.Log, error) {
	c := n.core.Load()
	if c == nil {
		return nil, fmt.Errorf("%w: the node has not started", api.ErrUnavailable)
	}
	return logger.NewClient(c.dir), nil
}

// Newest is the index of the newest durable record.
func (b *apiCore) Newest(ctx context.Context) (uint64, error) {
	s, err := b.log.Stat(ctx)
	return s.Durable, err
}
