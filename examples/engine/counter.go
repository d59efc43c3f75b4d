package main

import (
	"context"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/engines/tail"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// Name is the name of the engine. The router finds it by this name.
const Name = "counter"

// Count is the query to the counter.
type Count struct{}

// Counted is the answer to Count: how many blocks and transactions the log has, up to the record at
// Index.
type Counted struct {
	Index        uint64
	Blocks       uint64
	Transactions uint64 // in these blocks, including refused and failed ones
}

// Answer declares that the answer to the query Count is a Counted. The method is only for the
// compiler: nothing calls it.
func (Count) Answer(Counted) {}

// block is the message about a committed block that follow posts to the counter's own mailbox.
type block struct{ index, transactions uint64 }

// Counter describes the engine for node.WithEngine.
var Counter = node.Engine{ID: Name, Start: start}

// start returns the start function of the counter. Each incarnation begins with new state, and
// counts the whole log again. So a counter that was killed has the right numbers again, although it
// saves nothing.
func start(dir engines.Directory) supervisor.StartFunc {
	return func(ctx context.Context) (supervisor.Service, error) {
		log := logger.NewClient(dir)
		var now Counted // only the engine's goroutine uses it
		return engines.Spec{Name: Name, Init: func(ctx context.Context, s *engines.Server) error {
			engines.OnCall(s, func(_ context.Context, _ Count, from engines.From[Counted]) error {
				from.Reply(now)
				return nil
			})

			engines.OnCast(s, func(_ context.Context, b block) error {
				now.Index = b.index
				now.Blocks++
				now.Transactions += b.transactions
				return nil
			})

			// The goroutine belongs to the incarnation: it ends with the engine, and its failure is
			// the engine's failure.
			return supervisor.Go(ctx, func(ctx context.Context) error { return follow(ctx, log, s) })
		}}.Start(dir)(ctx)
	}
}

// follow sends a block message to the counter for each committed block of the log, from the first
// on.
func follow(ctx context.Context, log logger.Client, s *engines.Server) error {
	t := tail.New(tail.Options{
		Log:   func() (tail.Log, error) { return log, nil },
		Kinds: []eventlog.Kind{chain.KindBlockCommitted},
	})
	defer t.Close()

	for entry, err := range t.Records(ctx) {
		if err != nil {
			return err
		}

		record, err := chain.DecodeRecord(entry)
		if err != nil {
			return err
		}

		s.Post(block{entry.Index, uint64(len(record.(*logv1.BlockCommitted).Results))})
	}

	return nil
}

// Ask returns the present numbers of the counter. It is for callers outside of the node. It waits
// while the counter is being restarted.
func Ask(ctx context.Context, n *node.Node) (Counted, error) {
	return engines.Call(ctx, engines.NewAddress(n.Directory(), Name).With(engines.Resend), Count{})
}
