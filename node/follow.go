package node

import (
	"context"
	"fmt"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/tail"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/pubsub"
)

// byKind makes the filters of followers. Followers with the same filter share an agent.
var byKind = pubsub.Where("kind", func(e engines.Event, value string) bool {
	r, ok := e.(engines.RecordLogged)
	return ok && (value == "" || value == chain.KindName(r.Kind))
})

// Follow calls send with the records after the cursor whose kind is one of kinds: see api.Core. It
// ends with ctx, or with the incarnation of the logger.
func (b *apiCore) Follow(ctx context.Context, after client.Cursor, kinds []string, send func(api.Logged) error) error {
	o := tail.Options{Log: func() (tail.Log, error) { return b.log, nil }, After: after.Index, EndWithLog: true,
		Admit: b.node.admit(after.History), Bus: b.node.bus, Chain: pubsub.Chain[engines.Event]{byKind.Is("")}}
	if len(kinds) == 1 {
		o.Chain = pubsub.Chain[engines.Event]{byKind.Is(kinds[0])}
	}

	for _, name := range kinds {
		kind, _ := chain.KindOf(name) // the API has checked the names
		o.Kinds = append(o.Kinds, kind)
	}

	t := tail.New(o)
	defer t.Close()

	if err := t.Open(ctx); err != nil {
		return err
	}

	for {
		it, err := t.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("%w: %w", api.ErrUnavailable, err) // the logger has ended; the client may follow the next
		}

		r := api.Logged{Index: it.Index, History: b.node.history.Load().At(it.Index)}
		if !it.Mark {
			r.Kind, r.Data = chain.KindName(it.Kind), it.Data
		}

		if err := send(r); err != nil {
			return err
		}
	}
}

// Newest returns the cursor of the newest durable record.
func (b *apiCore) Newest(ctx context.Context) (client.Cursor, error) {
	s, err := b.log.Stat(ctx)
	return client.Cursor{History: b.node.history.Load().At(s.Durable), Index: s.Durable}, err
}

// admit returns the check of a cursor whose record was written in the era id.
func (n *Node) admit(id string) func(after, first uint64) error {
	return func(after, first uint64) error { return n.history.Load().Check(id, after, first) }
}
